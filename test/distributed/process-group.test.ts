/** @file Process groups, with processes of their own: what collectives return, and what each fault leads to. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { byFile, byPort, freePort, type Rank, type RankEnded, rankProgram, startRanks } from './ranks.js';

const ended = (args: readonly string[], environments: readonly NodeJS.ProcessEnv[]): Promise<RankEnded[]> =>
  Promise.all(startRanks([rankProgram, ...args], environments).map(({ ended }) => ended));

it.each([2, 3, 4])('%i processes: collectives', async (n) => {
  const results = await ended(['collectives'], n === 3 ? await byPort(n) : byFile(n));
  expect(results.map(({ code, err }) => [code, err])).toEqual(
    // Nothing is said but that rank 0 listens.
    results.map((_, rank) => [
      0,
      n === 3 && rank === 0 ? expect.stringMatching(/^Rank 0 listens at port \d+/) : '',
    ]),
  );
  const ranks = Array.from({ length: n }, (_, rank) => rank);
  const total = ranks.reduce((sum, rank) => sum + rank, 0);
  for (const [rank, { out }] of results.entries()) {
    const { sum, ...others } = JSON.parse(out);
    expect(sum).toEqual([total, expect.closeTo(total / 10), n]);
    expect(others).toEqual({
      fromMain: [7],
      largest: [n - 1, 0].map((value) => expect.closeTo(value)),
      numbers: ranks.map((one) => (one === 0 ? 'NaN' : '-Infinity')),
      lengths: ranks.map((one) => one * 1000),
      together: rank,
      hosts: n,
    });
  }
});

it('the event loop runs during a reduction', async () => {
  for (const { out } of await ended(['timer'], byFile(2))) {
    const { ticks, ms } = JSON.parse(out);
    expect(ticks).toBeGreaterThan(ms / 10);
  }
});

/** Returns the ports at which a process listens. */
function listeningPorts(pid: number): number[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        // Closed meanwhile.
        return [];
      }
    }),
  );
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      // 0A: listening
      .filter(([, , , state, , , , , , inode]) => state === '0A' && inodes.has(inode as string))
      .map(([, local]) => Number.parseInt((local as string).split(':')[1] as string, 16)),
  );
}

it('garbage at the ports: the reductions go on', async () => {
  const ranks = startRanks([rankProgram, 'count', '20'], await byPort(2));
  await Promise.all(ranks.map(({ said }, rank) => said(`ready ${rank}`)));
  const ports = [...new Set(ranks.flatMap(({ child }) => listeningPorts(child.pid as number)))];
  expect(ports.length).toBeGreaterThan(0);
  for (const port of ports)
    for (let i = 0; i < 5; i++)
      await new Promise<void>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => socket.end(randomBytes(300)));
        socket.on('error', () => {}).on('close', () => resolve());
        // c10d may keep the connection and wait for more.
        socket.setTimeout(500, () => socket.destroy());
      });
  for (const { child } of ranks) child.kill('SIGUSR2');
  for (const { code, out, err } of await Promise.all(ranks.map(({ ended }) => ended))) {
    expect(code, err).toBe(0);
    expect(JSON.parse(out)).toEqual({ wrong: 0 });
  }
});

it('other options at a rank: all ranks name them', async () => {
  for (const { code, err } of await ended(['differ'], byFile(3))) {
    expect(code).toBe(1);
    expect(err).toMatch(
      /^ConfigError: .*but seed is 0 at rank 0 but 1 at rank 2\. Start all with the same command\n$/,
    );
  }
});

it('other weights at a rank: no rank saves, and all say which rank it is and how to resume', async () => {
  const results = await ended(['saveOtherWeights'], byFile(3));
  for (const [rank, { code, err }] of results.entries()) {
    expect(code).toBe(1);
    const hint = rank === 0 ? 'resume with --resume no-such-folder/checkpoint-2' : 'resume with --resume';
    expect(err).toMatch(
      /^TrainingError: Expected the same weights on all processes after step 4 but those of rank 2 \(process \d+ on \S+\) differ from those of rank 0: /,
    );
    expect(err).toContain(`may be faulty. No checkpoint was written; ${hint}\n`);
  }
});

it('a failure in work that all do together: the others give its reason', async () => {
  const [zero, one, two] = (await ended(['failTogether'], byFile(3))) as [RankEnded, RankEnded, RankEnded];
  expect(one.err).toBe('Error: the image 7.png is damaged\n');
  for (const { code, err, seconds } of [zero, two]) {
    expect(code).toBe(1);
    expect(err).toMatch(
      /^ProcessGroupError: rank 1 \(process \d+ on \S+\) failed: Error: the image 7\.png is damaged\n$/,
    );
    expect(seconds).toBeLessThan(15);
  }
});

it.each([0, 2])('rank %i is killed: the others end at once', async (killed) => {
  const ranks = startRanks([rankProgram, 'loop', '30'], await byPort(3));
  await Promise.all(ranks.map(({ said }, rank) => said(`ready ${rank}`)));
  ranks[killed]?.child.kill('SIGKILL');
  const start = performance.now();
  const results = await Promise.all(ranks.map(({ ended }) => ended));
  expect(performance.now() - start).toBeLessThan(8000);
  for (const [rank, { code, err }] of results.entries()) {
    if (rank === killed) continue;
    expect(code).toBe(1);
    expect(err).toMatch(/ProcessGroupError: .* ended or lost its connection \(.*--resume auto/);
  }
});

it('a rank that hangs: the others end after the timeout', async () => {
  const ranks = startRanks([rankProgram, 'loop', '4'], byFile(2));
  await Promise.all(ranks.map(({ said }, rank) => said(`ready ${rank}`)));
  ranks[1]?.child.kill('SIGSTOP');
  const start = performance.now();
  const { code, err } = await (ranks[0] as Rank).ended;
  expect(performance.now() - start).toBeLessThan(14_000);
  expect(code).toBe(1);
  expect(err).toMatch(/did not answer within 4 s .*--distributed-timeout/);
});

it('a rank is missing: the others name it', async () => {
  const [first, , third] = byFile(3) as [NodeJS.ProcessEnv, NodeJS.ProcessEnv, NodeJS.ProcessEnv];
  for (const { code, err, seconds } of await ended(['loop', '2'], [first, third])) {
    expect(code).toBe(1);
    expect(err).toMatch(/^ProcessGroupError: rank 1 of 3 did not come within 2 s/);
    expect(seconds).toBeLessThan(12);
  }
});

/** Returns what rank 0 says where rank 1 comes with these words. */
async function besideRankOne(words: readonly string[]): Promise<RankEnded> {
  const [first, second] = byFile(2) as [NodeJS.ProcessEnv, NodeJS.ProcessEnv];
  const [zero] = startRanks([rankProgram, 'loop', '3'], [first]) as [Rank];
  startRanks([rankProgram, ...words], [second]);
  return zero.ended;
}

it('a rank comes and ends before it is connected: the others name it', async () => {
  const { code, err, seconds } = await besideRankOne(['comeAndEnd', '3']);
  expect(code).toBe(1);
  expect(err).toMatch(
    /^ProcessGroupError: rank 1 \(process 1 on other\) came, and ended or could not be reached before it was connected \(.*Its messages say why/,
  );
  expect(seconds).toBeLessThan(13);
});

it('a rank with another LibTorch', async () => {
  const { code, err } = await besideRankOne(['comeAndEnd', '3', '9.9.9']);
  expect(code).toBe(1);
  expect(err).toMatch(
    /^ProcessGroupError: .* need the same LibTorch, but rank 0 \(.*\) has \d.* and rank 1 \(process 1 on other\) has 9\.9\.9/,
  );
});

it('two processes with one rank', async () => {
  const [first, second] = byFile(3) as [NodeJS.ProcessEnv, NodeJS.ProcessEnv];
  const results = await ended(['loop', '2'], [first, second, second]);
  expect(results.every(({ code }) => code === 1)).toBe(true);
  const words = results.map(({ err }) => err).join('');
  expect(words).toMatch(/two processes say that they are rank 1: give every process a RANK of its own/);
  expect(words).toMatch(/rank 2 of 3 did not come/);
});

it('nobody at MASTER_ADDR', async () => {
  const [, second] = (await byPort(2)) as [NodeJS.ProcessEnv, NodeJS.ProcessEnv];
  const [{ code, err, seconds }] = (await ended(['loop', '2'], [second])) as [RankEnded];
  expect(code).toBe(1);
  expect(err).toMatch(
    /^ProcessGroupError: The processes' store at 127\.0\.0\.1:\d+ cannot be reached: .*firewall/,
  );
  expect(seconds).toBeLessThan(14);
});

it('a MASTER_ADDR that does not exist', async () => {
  const [, second] = (await byPort(2)) as [NodeJS.ProcessEnv, NodeJS.ProcessEnv];
  const [{ code, err }] = (await ended(
    ['loop', '2'],
    [{ ...second, MASTER_ADDR: 'no-such-host.invalid' }],
  )) as [RankEnded];
  expect(code).toBe(1);
  expect(err).toMatch(
    /^ConfigError: MASTER_ADDR is no-such-host\.invalid, which is not the name or address of a host/,
  );
});

it('a port in use by another program', async () => {
  const port = await freePort();
  const stranger = createServer((socket) => socket.on('error', () => {})).listen(port);
  onTestFinished(() => void stranger.close());
  const environments = (await byPort(2)).map((env) => ({ ...env, MASTER_PORT: String(port) }));
  const [zero, one] = (await ended(['loop', '2'], environments)) as [RankEnded, RankEnded];
  expect(zero.err).toMatch(
    /ProcessGroupError: Port \d+ is in use on this host: give all processes another MASTER_PORT/,
  );
  expect(one.err).toMatch(/^ProcessGroupError: .*LibTorch/);
  expect([zero.code, one.code]).toEqual([1, 1]);
  expect(one.seconds).toBeLessThan(20);
});

it('an interface that does not exist', async () => {
  const [first] = (await byPort(2)) as [NodeJS.ProcessEnv];
  const [{ err }] = (await ended(['loop', '2'], [{ ...first, GLOO_SOCKET_IFNAME: 'ib7' }])) as [RankEnded];
  expect(err).toMatch(/GLOO_SOCKET_IFNAME is ib7, which is no network interface of this host; it has lo/);
});
