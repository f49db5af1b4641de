/** @file `ip-adapter train`: shows progress, saves a checkpoint on Ctrl-C, and ends with commands that use the adapter. */
import { Command, Option } from '@commander-js/extra-typings';
import { z } from 'zod';
import type { BadRow } from '../base/listing.js';
import { rankEnvironment, storeFileVariable } from '../distributed/environment.js';
import { STOPPED } from '../distributed/launch.js';
import { presetNames } from '../options/presets.js';
import { trainOptionsSchema } from '../options/train-options.js';
import { type StoppedBySignal, withCtrlC } from './abort.js';
import { dryRunTable } from './dry-run-table.js';
import { addFlags } from './flags.js';
import { nextSteps } from './next-steps.js';
import { resolveWithPreset } from './preset.js';
import { TrainProgress } from './progress.js';
import { endWithLauncher, processesToStart, processOptions, trainInProcesses } from './train-processes.js';

const schema = trainOptionsSchema.extend({
  ...processOptions,
  preset: z
    .enum(presetNames)
    .optional()
    .describe('options for about 20, 1,000 or 100,000 images, which are shown; flags and --config win'),
  dryRun: z
    .boolean()
    .default(false)
    .describe(
      'load everything, run two steps and report the memory and time that the run needs; nothing is written',
    ),
});

/** Flags of the original's launcher. */
const ignoredFlags = ['local-rank'];

export function trainCommand(): Command {
  const command = new Command('train').description(
    'Train an IP-Adapter on captioned images. Flags may be written with hyphens or underscores.',
  );
  addFlags(command as unknown as Command, schema);
  for (const flag of ignoredFlags)
    command.addOption(new Option(`--${flag} <value>`, 'accepted for the original scripts; has no effect'));
  return command.action((options) => run(options)) as unknown as Command;
}

async function run(flags: Record<string, unknown>): Promise<void> {
  const used = { ...flags };
  for (const flag of ignoredFlags) {
    const key = flag.replace(/-[a-z]/g, (letter) => letter.slice(1).toUpperCase());
    if (key in used) process.stderr.write(`--${flag} has no effect.\n`);
    delete used[key];
  }
  const isMain = (rankEnvironment()?.rank ?? 0) === 0;
  const { preset: _, ...resolved } = resolveWithPreset(schema, used, isMain ? say : () => undefined);
  const count = await processesToStart(resolved);
  if (count !== undefined) {
    await withCtrlC(async (signal) => {
      process.exitCode = await trainInProcesses(count, resolved, signal, say);
      signal.throwIfAborted();
    });
    return;
  }
  const { dryRun: isDryRun, numProcesses: __, distributedTimeout, maxRestarts: ___, ...options } = resolved;
  const isLaunched = process.env[storeFileVariable] !== undefined;
  const progress = new TrainProgress(process.stderr);
  try {
    await withCtrlC(async (signal) => {
      if (isLaunched) endWithLauncher(signal);
      const context = { signal, onEvent: progress.onEvent };
      // Loaded now: --help should not need LibTorch.
      if (isDryRun) {
        const { dryRun } = await import('../training/dry-run/dry-run.js');
        const report = await dryRun(options, context);
        reportSkipped(report.badRows);
        process.stdout.write(`${dryRunTable(report, options.validationImages.length > 0)}\n`);
        return;
      }
      const { joinProcessGroup } = await import('../distributed/join.js');
      const distributed = await joinProcessGroup({ timeoutSeconds: distributedTimeout, onMessage: say });
      const { train } = await import('../training/train.js');
      const { step, isStopped, checkpoint, badRows } = await train(options, { ...context, distributed });
      progress.stop();
      if (signal.aborted) process.exitCode = (signal.reason as StoppedBySignal).exitCode;
      else if (isStopped) process.exitCode = STOPPED;
      // Rank 0 reports for all.
      if (distributed !== undefined && !distributed.isMain) return;
      reportSkipped(badRows);
      if (signal.aborted || isStopped)
        say(`Stopped after step ${step}. To resume: the same command with --resume ${checkpoint}`);
      else say(nextSteps(options, checkpoint));
      process.stdout.write(`${checkpoint}\n`);
    }, isLaunched);
  } finally {
    progress.stop();
  }
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function reportSkipped({ length }: readonly BadRow[]): void {
  if (length === 0) return;
  process.stderr.write(`${length === 1 ? '1 row was' : `${length} rows were`} skipped.\n`);
}
