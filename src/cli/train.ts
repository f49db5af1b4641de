/** @file `ip-adapter train`: flags to options, progress to the terminal, Ctrl-C to a checkpoint. */
import { Command, Option } from '@commander-js/extra-typings';
import { trainOptionsSchema } from '../config.js';
import { type StoppedBySignal, withCtrlC } from './abort.js';
import { addFlags, resolveFlags } from './flags.js';
import { TrainProgress } from './progress.js';

/** Flags of the original that concern its launcher. */
const ignoredFlags = ['local-rank'];

export function trainCommand(): Command {
  const command = new Command('train').description(
    'Train an IP-Adapter Plus on captioned pictures. Flags may be written with hyphens or underscores.',
  );
  addFlags(command as unknown as Command, trainOptionsSchema);
  for (const flag of ignoredFlags)
    command.addOption(
      new Option(`--${flag} <value>`, 'accepted for scripts of the original, which does not use it either'),
    );
  return command.action((options) => run(options)) as unknown as Command;
}

async function run(flags: Record<string, unknown>): Promise<void> {
  const used = { ...flags };
  for (const flag of ignoredFlags) {
    const key = flag.replace(/-[a-z]/g, (letter) => letter.slice(1).toUpperCase());
    if (key in used) process.stderr.write(`--${flag} has no effect.\n`);
    delete used[key];
  }
  const options = resolveFlags(trainOptionsSchema, used);

  // Words that no one reads any more, since the terminal or the pipe is closed, must not end a run of many hours.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  const progress = new TrainProgress(process.stderr);
  try {
    await withCtrlC(async (signal) => {
      // Loaded now: --help should not need LibTorch.
      const { train } = await import('../train.js');
      const { step, checkpoint, badRows } = await train(options, {
        signal,
        onMessage: (message) => progress.message(message),
        onSteps: (report) => progress.steps(report),
      });
      progress.stop();
      if (badRows.length > 0) process.stderr.write(`${skipped(badRows.length)}\n`);
      if (signal.aborted) {
        process.stderr.write(`Stopped after step ${step}. Go on with the same command and --resume.\n`);
        process.exitCode = (signal.reason as StoppedBySignal).exitCode;
      }
      process.stdout.write(`${checkpoint}\n`);
    });
  } finally {
    progress.stop();
  }
}

function skipped(pictures: number): string {
  return pictures === 1
    ? '1 picture could not be read and was skipped.'
    : `${pictures} pictures could not be read and were skipped.`;
}
