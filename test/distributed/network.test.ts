/** @file Two hosts, as two network namespaces with a cable between them: slow, lossy, and cut. */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { ipAdapter } from '../e2e/command.js';
import { makeWorld, type World } from '../e2e/world.js';
import { type RankEnded, rankProgram, startRanks } from './ranks.js';
import { bytesOf, run, trainWords } from './runs.js';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

function succeeds(...command: string[]): boolean {
  return spawnSync(command[0] as string, command.slice(1)).status === 0;
}

const probe = `ip-adapter-probe-${process.pid}`;
const hasNamespaces = succeeds('ip', 'netns', 'add', probe) && succeeds('ip', 'netns', 'del', probe);
const hasNftables = succeeds('nft', '--version');
if (!hasNamespaces)
  console.log('Tests between hosts are skipped: they need root, iproute2 and network namespaces.');
else if (!hasNftables) console.log('The link between hosts loses no packets: that needs nftables.');

function must(...command: string[]): void {
  const { status, stderr } = spawnSync(command[0] as string, command.slice(1), { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
}

/** Makes two namespaces with a cable; `cut` draws it. They are gone when the test ends. */
function twoHosts(shape: { rate?: string; loss?: number }): { hosts: string[]; cut(): void } {
  const hosts = ['a', 'b'].map((name) => `ip-adapter-${name}-${process.pid}`) as [string, string];
  for (const host of hosts) must('ip', 'netns', 'add', host);
  onTestFinished(() => {
    for (const host of hosts) succeeds('ip', 'netns', 'del', host);
  });
  must(
    'ip',
    'link',
    'add',
    'cable',
    'netns',
    hosts[0],
    'type',
    'veth',
    'peer',
    'name',
    'cable',
    'netns',
    hosts[1],
  );
  for (const [i, host] of hosts.entries()) {
    must('ip', '-n', host, 'addr', 'add', `10.77.0.${i + 1}/24`, 'dev', 'cable');
    for (const device of ['lo', 'cable']) must('ip', '-n', host, 'link', 'set', device, 'up');
    const inHost = ['ip', 'netns', 'exec', host];
    if (shape.rate !== undefined)
      must(
        ...inHost,
        'tc',
        'qdisc',
        'add',
        'dev',
        'cable',
        'root',
        'tbf',
        'rate',
        shape.rate,
        'burst',
        '256kb',
        'latency',
        '400ms',
      );
    if (shape.loss !== undefined && hasNftables)
      must(
        ...[...inHost, 'nft'],
        `table inet lossy { chain in { type filter hook input priority 0; iifname cable numgen random mod 100 < ${shape.loss} drop; }; }`,
      );
  }
  return { hosts, cut: () => must('ip', '-n', hosts[1], 'link', 'set', 'cable', 'down') };
}

const environments = [0, 1].map((rank) => ({
  ...{ RANK: String(rank), WORLD_SIZE: '2' },
  ...{ MASTER_ADDR: '10.77.0.1', MASTER_PORT: '29500' },
}));

describe.skipIf(!hasNamespaces)('between two hosts', () => {
  let world: World;
  const options = { max_train_steps: 6, save_steps: 3 };
  beforeAll(async () => {
    world = await makeWorld(14);
    const { exitCode, stderr } = await run(trainWords(world, 'local', { ...options, processes: 2 }));
    expect(exitCode, stderr).toBe(0);
  });
  afterAll(() => world?.remove());

  it.each([
    ['1 % loss', { loss: 1 }],
    ['a slow link', { rate: '20mbit' }],
  ])('%s: the same bytes as on one host', async (name, shape) => {
    const { hosts } = twoHosts(shape);
    const words = trainWords(world, name.replaceAll(' ', '-'), { ...options, rows: 6, train_batch_size: 6 });
    const ranks = startRanks([ipAdapter, ...words], environments, hosts);
    const [zero, one] = (await Promise.all(ranks.map(({ ended }) => ended))) as [RankEnded, RankEnded];
    expect([zero.code, one.code], zero.err + one.err).toEqual([0, 0]);
    expect(zero.err).toMatch(/Rank 0 listens at port 29500 of all its addresses/);
    expect(one.err).toBe('');
    for (const file of ['optimizer.safetensors', 'ip_adapter.safetensors'])
      expect(
        bytesOf(world, name.replaceAll(' ', '-'), 6, file).equals(bytesOf(world, 'local', 6, file)),
      ).toBe(true);
  });

  it('the cable is cut: both end after the timeout, and name what to do', async () => {
    const { hosts, cut } = twoHosts({});
    const ranks = startRanks([rankProgram, 'loop', '4'], environments, hosts);
    await Promise.all(ranks.map(({ said }, rank) => said(`ready ${rank}`)));
    cut();
    const start = performance.now();
    for (const { code, err } of await Promise.all(ranks.map(({ ended }) => ended))) {
      expect(code).toBe(1);
      expect(err).toMatch(
        /ProcessGroupError: .*(did not answer within 4 s|lost its connection).*--resume auto/,
      );
    }
    expect(performance.now() - start).toBeLessThan(14_000);
  });
});
