/** @file `ip-adapter generate`: flags to options, images to PNG files, their names to stdout. */
import { writeFile } from 'node:fs/promises';
import { format, parse } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { assertCanWrite } from '../base/out-file.js';
import type { GeneratedImage } from '../generation/generated-image.js';
import { contactSheet, encodePng } from '../images/png.js';
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
  assertCanWrite(out, '--out (out)');
  const progress = new StepProgress(process.stderr);
  await withCtrlC(async (signal) => {
    try {
      // Loaded now: --help should not need LibTorch.
      const { generate } = await import('../generation/generate.js');
      const images = await generate(options, { signal, onEvent: progress.onEvent });
      progress.stop();
      await write(images, out);
    } finally {
      progress.stop();
    }
  });
}

async function write(images: readonly GeneratedImage[], out: string): Promise<void> {
  const { dir, name, ext } = parse(out);
  const suffixed = (suffix: string | number): string => format({ dir, name: `${name}-${suffix}`, ext });
  for (const image of images) {
    const file = images.length === 1 ? out : suffixed(image.seed);
    await image.save(file);
    process.stdout.write(`${file}\n`);
  }
  if (images.length === 1) return;
  const sheet = suffixed('sheet');
  await writeFile(sheet, await encodePng(contactSheet(images)));
  process.stdout.write(`${sheet}\n`);
}
