/** @file `ip-adapter train` in several processes: starts those of this host, or joins those that torchrun has started. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { listCheckpoints, stepOf } from '../adapters/adapter-path.js';
import { ConfigError } from '../base/errors.js';
import { type RankEnvironment, rankEnvironment } from '../distributed/environment.js';
import {
  describeFailure,
  exitCodeOf,
  type Failure,
  LOST_OTHERS,
  launch,
  STOPPED,
} from '../distributed/launch.js';
import { count, whole } from '../options/options.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';

const processes = 'must be the number of processes, or auto for one for each GPU';

/** The options of several processes. The number is not in the library's options: there, every process calls `train`. */
export const processOptions = {
  numProcesses: z
    // A flag's value is text.
    .preprocess(
      (value) => (typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value),
      z.union([z.literal('auto'), whole(1, 1024)], processes),
    )
    .optional()
    .describe(
      'processes of this host that train together, each with --batch-size rows a step, on a GPU each or sharing the cores; auto: one for each GPU; default: 1, or as torchrun says',
    ),
  distributedTimeout: count
    .default(600)
    .describe('seconds that a process waits for another before the run ends, with several processes'),
  maxRestarts: whole(0, 1000)
    .default(0)
    .describe(
      'how often --num-processes starts the processes again from the newest checkpoint when one dies',
    ),
};

export type ProcessOptions = z.output<z.ZodObject<typeof processOptions>>;

/**
 * Returns how many processes to start here; undefined where this process trains itself, alone or as one of several.
 * @throws ConfigError where options and environment contradict each other
 */
export async function processesToStart(
  { numProcesses, device, dataset, dryRun }: ProcessOptions & ResolvedTrainOptions & { dryRun: boolean },
  environment: RankEnvironment | undefined = rankEnvironment(),
): Promise<number | undefined> {
  if (environment !== undefined) {
    if (numProcesses !== undefined && numProcesses !== environment.worldSize)
      throw new ConfigError(
        `--num-processes is ${numProcesses}, but this is rank ${environment.rank} of ${environment.worldSize} processes that were started by torchrun or by hand (RANK, WORLD_SIZE); leave it out`,
      );
    return undefined;
  }
  // Loaded only if GPUs must be counted: --help and faults should not need LibTorch.
  const wanted =
    numProcesses === 'auto'
      ? device === 'cpu'
        ? 1
        : Math.max(1, (await import('../torch/index.js')).cudaDevices())
      : (numProcesses ?? 1);
  if (wanted === 1) return undefined;
  const refuse = (option: string, remedy: string): never => {
    throw new ConfigError(`${option} does not go together with --num-processes ${wanted}: ${remedy}`);
  };
  if (dryRun) refuse('--dry-run', 'it measures one process; leave --num-processes out');
  if (dataset.includes('-'))
    refuse('--dataset -', 'standard input can be read once; save the tar to a file and give its path');
  if (device?.includes(':'))
    refuse(`--device ${device}`, 'each process has a GPU of its own; give --device cuda');
  return wanted;
}

/**
 * Runs the training in `count` processes, and again after a failure as often as `maxRestarts` says.
 * @returns the exit code
 */
export async function trainInProcesses(
  count: number,
  { numProcesses: _, maxRestarts, ...options }: ProcessOptions & ResolvedTrainOptions & { dryRun: boolean },
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-options-'));
  const file = join(folder, 'options.json');
  const newest = (): number => Math.max(-1, ...listCheckpoints(options.outputDir).map(stepOf));
  const cores = options.threads === undefined ? { OMP_NUM_THREADS: threadsOfEach(count) } : {};
  try {
    let resume = options.resume;
    for (let restarts = 0; ; restarts++) {
      writeFileSync(file, JSON.stringify({ ...options, resume }));
      const startedFrom = newest();
      const failure = await launch({
        count,
        args: [...process.execArgv, process.argv[1] as string, 'train', '--config', file],
        env: { GLOG_minloglevel: '3', ...cores, ...process.env },
        signal,
        onLine: (rank, line) => say(`rank ${rank}: ${line}`),
      });
      if (failure === undefined) return 0;
      if (failure === 'stopped') return STOPPED;
      say(`${describeFailure(failure)}. The other processes were ended.`);
      const last = newest();
      if (!mayPass(failure) || restarts === maxRestarts || last <= startedFrom) {
        if (mayPass(failure) && restarts < maxRestarts)
          say('The processes are not started again: there is no checkpoint since they were started.');
        if (last >= 0) say('To resume: the same command with --resume');
        return exitCodeOf(failure);
      }
      resume = 'auto';
      say(
        `Starting the processes again, from step ${last} (restart ${restarts + 1} of at most ${maxRestarts})`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Whether a failure may not come again. An error in options, data or weights, with exit code 2, will. */
function mayPass({ code }: Failure): boolean {
  return code !== 2;
}

function threadsOfEach(count: number): string {
  return String(Math.max(1, Math.floor(availableParallelism() / count)));
}

/** Ends this process when the one that started it is gone: first as a signal does, with a checkpoint. */
export function endWithLauncher(signal: AbortSignal): void {
  if (process.channel === undefined) return;
  process.once('disconnect', () => {
    if (signal.aborted) process.exit(LOST_OTHERS);
    process.kill(process.pid, 'SIGTERM');
  });
  process.channel?.unref();
}
