/** @file `ip-adapter embed`: writes embeddings of images, which `ip-adapter generate --images` takes in their place. */
import { Command } from '@commander-js/extra-typings';
import { embedOptionsSchema } from '../options/embed-options.js';
import { withCtrlC } from './abort.js';
import { addFlags, resolveFlags } from './flags.js';
import { StepProgress } from './step-progress.js';

export function embedCommand(): Command {
  const command = new Command('embed')
    .description('Encode images once; generate takes the file in --images, and then needs no image encoder.')
    .argument('<images...>', 'image files');
  const schema = embedOptionsSchema.omit({ images: true });
  addFlags(command as unknown as Command, schema);
  return command.action(async (images, flags) => {
    // Loaded now: --help should not need LibTorch.
    const { embed } = await import('../generation/embed.js');
    const options = resolveFlags(schema, flags);
    const progress = new StepProgress(process.stderr);
    await withCtrlC(async (signal) => {
      try {
        await embed({ ...options, images }, { signal, onEvent: progress.onEvent });
      } finally {
        progress.stop();
      }
      process.stdout.write(`${options.out}\n`);
    });
  }) as unknown as Command;
}
