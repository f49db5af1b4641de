/** @file `ip-adapter studio`: serves the page for trainings until Ctrl-C. Trainings go on without it. */
import { Command } from '@commander-js/extra-typings';
import { studioOptionsSchema } from '../options/studio-options.js';
import { withCtrlC } from './abort.js';
import { addFlags, resolveFlags } from './flags.js';

export function studioCommand(): Command {
  const command = new Command('studio').description(
    'Open a page in the browser that starts trainings, shows their curves and images, and steers them.',
  );
  addFlags(command as unknown as Command, studioOptionsSchema);
  return command.action(serve) as unknown as Command;
}

async function serve(flags: Record<string, unknown>): Promise<void> {
  const options = resolveFlags(studioOptionsSchema, flags);
  const { startStudio } = await import('../studio/server.js');
  await withCtrlC(async (signal) => {
    const studio = await startStudio(options, [
      process.execPath,
      ...process.execArgv,
      process.argv[1] as string,
    ]);
    process.stdout.write(`${studio.url}\n`);
    process.stderr.write('Open this address in a browser. Ctrl-C ends the studio; trainings go on.\n');
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    await studio.close();
  }, true);
}
