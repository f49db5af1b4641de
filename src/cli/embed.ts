/** @file `ip-adapter embed`: pictures to image embeddings, which `ip-adapter generate --image` takes in their place. */
import { Command } from '@commander-js/extra-typings';
import { embedOptionsSchema } from '../pipeline/generate-config.js';
import { addFlags } from './flags.js';

export function embedCommand(): Command {
  const command = new Command('embed')
    .description('Encode pictures once; generate takes the file as --image, and needs no image encoder then.')
    .argument('<pictures...>', 'picture files');
  addFlags(command as unknown as Command, embedOptionsSchema.omit({ images: true }));
  return command.action(async (images, flags) => {
    // Loaded now: --help should not need LibTorch.
    const { embed } = await import('../pipeline/embed.js');
    const options = { ...flags, images } as unknown as Parameters<typeof embed>[0];
    await embed(options);
    process.stdout.write(`${options.out}\n`);
  }) as unknown as Command;
}
