/** @file `ip-adapter embed`: pictures to image embeddings, which `ip-adapter generate --image` takes in their place. */
import { Command } from '@commander-js/extra-typings';
import { embedOptionsSchema } from '../options/embed-options.js';
import { withCtrlC } from './abort.js';
import { addFlags, resolveFlags } from './flags.js';
import { assertFolderFor } from './out-folder.js';
import { showMessage } from './step-progress.js';

export function embedCommand(): Command {
  const command = new Command('embed')
    .description('Encode pictures once; generate takes the file as --image, and needs no image encoder then.')
    .argument('<pictures...>', 'picture files');
  const schema = embedOptionsSchema.omit({ images: true });
  addFlags(command as unknown as Command, schema);
  return command.action(async (images, flags) => {
    // Loaded now: --help should not need LibTorch.
    const { embed } = await import('../generation/embed.js');
    const options = resolveFlags(schema, flags);
    assertFolderFor(options.out, '--out (out)');
    await withCtrlC(async (signal) => {
      await embed({ ...options, images }, { signal, onEvent: showMessage });
      process.stdout.write(`${options.out}\n`);
    });
  }) as unknown as Command;
}
