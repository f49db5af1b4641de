/** @file `ip-adapter generate`: writes each batch of images as PNG files when it is finished, and prints their names. */
import { writeFile } from 'node:fs/promises';
import { format, parse } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { assertCanWrite } from '../base/out-file.js';
import type { GeneratedImage } from '../generation/generated-image.js';
import { contactSheet, encodePng, fitsContactSheet } from '../images/png.js';
import { generateOptionsSchema } from '../options/generate-options.js';
import { path } from '../options/options.js';
import { withCtrlC } from './abort.js';
import { addFlags, resolveFlags } from './flags.js';
import { StepProgress } from './step-progress.js';

const schema = generateOptionsSchema.extend({
  out: path
    .refine((file) => /\.png$/i.test(file), 'must end in .png')
    .prefault('ip-adapter.png')
    .describe('PNG file to write; several images get their seed in the name, and a contact sheet'),
});

export function generateCommand(): Command {
  const command = new Command('generate').description(
    'Generate images that follow text and reference images. Flags may be written with hyphens or underscores.',
  );
  addFlags(command, schema);
  return command.action((flags) => run(flags));
}

async function run(flags: Record<string, unknown>): Promise<void> {
  const { out, ...options } = resolveFlags(schema, flags);
  const { seed, numImages } = options;
  const { dir, name, ext } = parse(out);
  const suffixed = (suffix: string | number): string => format({ dir, name: `${name}-${suffix}`, ext });
  const sheet = suffixed('sheet');
  const files = numImages === 1 ? [out] : Array.from({ length: numImages }, (_, i) => suffixed(seed + i));
  for (const file of numImages === 1 ? files : [...files, sheet]) assertCanWrite(file, '--out (out)');

  const progress = new StepProgress(process.stderr);
  await withCtrlC(async (signal) => {
    const shown: GeneratedImage[] = [];
    let written = 0;
    try {
      // Loaded now: --help should not need LibTorch.
      const { generateBatches } = await import('../generation/generate.js');
      for await (const batch of generateBatches(options, { signal, onEvent: progress.onEvent })) {
        progress.stop();
        for (const image of batch) {
          const file = files[written++] as string;
          await image.save(file);
          process.stdout.write(`${file}\n`);
          if (fitsContactSheet(numImages, image)) shown.push(image);
        }
      }
      if (numImages === 1) return;
      if (shown.length < numImages) {
        process.stderr.write(
          `No contact sheet: ${numImages} images of this size make one that is too large.\n`,
        );
        return;
      }
      await writeFile(sheet, await encodePng(contactSheet(shown)));
      process.stdout.write(`${sheet}\n`);
    } finally {
      progress.stop();
      if (written > 0 && written < numImages)
        process.stderr.write(`${written} of ${numImages} images were finished.\n`);
    }
  });
}
