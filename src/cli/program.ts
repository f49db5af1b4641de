/** @file `ip-adapter`: the commands, and their exit codes. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from '@commander-js/extra-typings';
import { isSystemError, TorchError, UserError } from '../base/errors.js';
import { LOST_OTHERS } from '../distributed/launch.js';
import { ProcessGroupError } from '../distributed/process-group-error.js';
import { buildCommand } from './build.js';
import { cacheCommand } from './cache.js';
import { dataCommand } from './data-check.js';
import { doctorCommand } from './doctor.js';
import { embedCommand } from './embed.js';
import { evaluateCommand } from './evaluate.js';
import { exportCommand } from './export.js';
import { generateCommand } from './generate.js';
import { inspectCommand } from './inspect.js';
import { installTorchCommand } from './install-torch.js';
import { publishCommand } from './publish.js';
import { reportCommand } from './report.js';
import { steerCommand } from './steer.js';
import { studioCommand } from './studio.js';
import { trainCommand } from './train.js';

/** Replaces underscores in flags, as the original's scripts have them: `--train_batch_size=4` → `--train-batch-size=4`. */
export function hyphenate(args: readonly string[]): string[] {
  return args.map((arg) => arg.replace(/^--[^=]+/, (flag) => flag.replaceAll('_', '-')));
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** How long a process of several may live when its work has ended, in ms. */
const EXIT_MS = 2000;

const program = new Command('ip-adapter')
  .version(version)
  .description('Train IP-Adapters for Stable Diffusion and generate with them: images as prompts.')
  .exitOverride()
  .addCommand(trainCommand())
  .addCommand(steerCommand())
  .addCommand(studioCommand())
  .addCommand(generateCommand())
  .addCommand(embedCommand())
  .addCommand(evaluateCommand())
  .addCommand(reportCommand())
  .addCommand(exportCommand())
  .addCommand(inspectCommand())
  .addCommand(publishCommand())
  .addCommand(cacheCommand())
  .addCommand(dataCommand())
  .addCommand(installTorchCommand())
  .addCommand(buildCommand())
  .addCommand(doctorCommand());
for (const command of program.commands.flatMap((one) => [one, ...one.commands]))
  command.exitOverride().showHelpAfterError('(--help lists the options)');

// A message that cannot be written (terminal or pipe closed, disk of a log full) must not end a run of many hours.
process.stderr.on('error', () => {});
process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE' || code === 'EIO') return;
  process.stderr.write(`The result could not be written to standard output: ${message}\n`);
  process.exitCode ||= 2;
});
try {
  await program.parseAsync(hyphenate(process.argv.slice(2)), { from: 'user' });
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed the error. Help and version are errors to it with exit code 0.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else if (error instanceof UserError || isSystemError(error)) {
    process.stderr.write(`${error.name}: ${error.message}\n`);
    process.exitCode = error instanceof ProcessGroupError ? LOST_OTHERS : 2;
  } else if (error instanceof TorchError && /out of memory/.test(error.message)) {
    process.stderr.write(`${error.message}\nUse a smaller batch size or smaller images.\n`);
    process.exitCode = 2;
  } else {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 1;
  }
}
// A collective that no other process answers any more would keep the process alive.
if (process.env.WORLD_SIZE !== undefined) setTimeout(() => process.exit(), EXIT_MS).unref();
