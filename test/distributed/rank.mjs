/** @file One of several processes of a test: joins the others, does what its argument says, and prints the result as JSON. */
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { openDataset } from '../../dist/data/open-dataset.js';
import { rankEnvironment } from '../../dist/distributed/environment.js';
import { joinProcessGroup } from '../../dist/distributed/join.js';
import { sharedInRounds } from '../../dist/distributed/processes.js';
import { setNumThreads, Tensor, tensor, torchVersion } from '../../dist/torch/index.js';
import { native } from '../../dist/torch/native.js';

setNumThreads(1);
const seconds = () => performance.now() / 1000;

const scenarios = {
  /** Every collective once. */
  async collectives(group) {
    const { rank } = group;
    const sum = tensor([rank, 0.1 * rank, 1], [3]);
    await group.allReduce(sum);
    const fromMain = tensor([rank + 7], [1]);
    await group.broadcast(fromMain);
    const numbers = await group.gatherJson([rank === 0 ? Number.NaN : -Infinity]);
    const texts = await group.gatherJson('x'.repeat(rank * 1000));
    return {
      sum: sum.toNumbers(),
      fromMain: fromMain.toNumbers(),
      largest: await group.agree([rank, -rank]),
      numbers: numbers.flat().map(String),
      lengths: texts.map(({ length }) => length),
      together: await group.together(() => sleep(rank * 100).then(() => rank)),
      hosts: group.members.length,
    };
  },
  /** How often a timer fires during large reductions, five so that one pause of the machine does not count. */
  async timer(group) {
    const large = tensor(new Float32Array(2e7), [2e7]);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const start = seconds();
    for (let i = 0; i < 5; i++) await group.allReduce(large);
    clearInterval(timer);
    return { ticks, ms: 1000 * (seconds() - start) };
  },
  /** Reductions until all are told to stop. Returns how many sums were wrong. */
  async count(group) {
    let isStopping = false;
    process.on('SIGUSR2', () => {
      isStopping = true;
    });
    process.stderr.write(`ready ${group.rank}\n`);
    let wrong = 0;
    for (;;) {
      const values = tensor([1, Number(isStopping)], [2]);
      await group.allReduce(values);
      const [sum, stopping] = values.toNumbers();
      if (sum !== group.worldSize) wrong++;
      if (stopping > 0) return { wrong };
      await sleep(10);
    }
  },
  async differ(group) {
    await group.assertSame({ seed: group.rank === 2 ? 1 : 0, rows: 5 });
  },
  /** Saves a run of which the last rank has other weights by one bit. */
  async saveOtherWeights(group) {
    // Loaded here: it takes the other scenarios 0.2 s a process.
    const { RunSaver } = await import('../../dist/training/run-saver.js');
    const isOther = group.rank === group.worldSize - 1;
    const weights = [tensor([1, isOther ? 1 + 2 ** -23 : 1], [2])];
    const training = {
      config: { outputDir: 'no-such-folder' },
      adapter: { parameters: () => weights },
      guard: { checkLastStep() {} },
    };
    const run = {
      ...{ processes: group, group, training },
      ...{ state: { step: 4 }, resumed: 'no-such-folder/checkpoint-2' },
    };
    const saver = new RunSaver(run, undefined, undefined, { onMessage() {} });
    await saver.save(true);
  },
  /** Rank 1 fails in work that all do together. */
  async failTogether(group) {
    await group.together(async () => {
      if (group.rank === 1) throw new Error('the image 7.png is damaged');
      await sleep(60_000);
    });
  },
  /** Opens the dataset of the variable DATASET, whose shards all list together. SHARD_CACHE is for remote ones. */
  async shards(group) {
    // Not earlier: the addon has been loaded from the usual cache.
    process.env.IP_ADAPTER_CACHE = process.env.SHARD_CACHE;
    const shareOut = (length, work) => sharedInRounds(group, length, 'shards', work);
    const { rows, fingerprint, shards } = await openDataset({ dataset: process.env.DATASET }, { shareOut });
    return { fingerprint, shards, captions: Array.from(rows, ({ captions }) => captions[0]) };
  },
  /** Reductions without end: for kills and hangs. */
  async loop(group) {
    const values = new Tensor(tensor(new Float32Array(1e5), [1e5]).handle);
    process.stderr.write(`ready ${group.rank}\n`);
    for (;;) {
      await group.allReduce(values);
      await sleep(10);
    }
  },
};

/** Comes with another version of LibTorch, if it is named, and ends before it is connected. */
async function comeAndEnd(timeout, libtorch = torchVersion()) {
  const { rank, worldSize, store: place, attempt } = rankEnvironment();
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  await native().distributed.openStore({
    ...{ rank, worldSize, timeout, file: place.file, host: '', port: 0, isServer: false },
    ...{ prefix: `ip-adapter/${attempt}` },
    self: JSON.stringify({ host: 'other', pid: 1, address: '127.0.0.1', version, libtorch }),
  });
}

try {
  const [scenario, timeout = '20', ...more] = process.argv.slice(2);
  if (scenario === 'comeAndEnd') {
    await comeAndEnd(1000 * Number(timeout), ...more);
    process.exit(0);
  }
  const group = await joinProcessGroup({
    timeoutSeconds: Number(timeout),
    onMessage: (text) => process.stderr.write(`${text}\n`),
  });
  const result = await scenarios[scenario](group);
  process.stdout.write(`${JSON.stringify(result ?? null)}\n`);
  process.exit(0);
} catch (error) {
  process.stderr.write(`${error.name}: ${error.message}\n`);
  process.exit(1);
}
