/** @file `ip-adapter generate`: writes each batch of images when it is finished, and prints their names. */
import { rename, rm, writeFile } from 'node:fs/promises';
import { format, parse } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import type { z } from 'zod';
import { assertCanWrite } from '../base/out-file.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { RunEvent } from '../base/run-context.js';
import type { GeneratedImage } from '../generation/generated-image.js';
import type { StoredSettings } from '../generation/stored-settings.js';
import { encodeImage, writtenEndings } from '../images/generated-file.js';
import { contactSheet, encodePng, fitsContactSheet } from '../images/png.js';
import { generateOptionsSchema, promptOptionsSchema } from '../options/generate-options.js';
import type { PromptOptions } from '../options/generate-types.js';
import { flagOf, path, resolveOptions } from '../options/options.js';
import { readPrompts } from '../options/prompts-file.js';
import { withCtrlC } from './abort.js';
import { addFlags, mergeFlags } from './flags.js';
import { StepProgress } from './step-progress.js';

const schema = generateOptionsSchema.extend({
  promptsFrom: path
    .optional()
    .describe(
      'file of prompts: text with one a line, or JSON Lines (.jsonl) with any options of a prompt, such as {"prompt": "a cat", "seed": 3}',
    ),
  from: path
    .optional()
    .describe('image that ip-adapter has written: repeats it from the settings in it; flags change them'),
  out: path
    .refine(
      (file) => writtenEndings.some((ending) => file.toLowerCase().endsWith(ending)),
      `must end in ${writtenEndings.join(', ')}`,
    )
    .prefault('ip-adapter.png')
    .describe(
      'PNG, WebP or JPEG file to write; several images get their seed in the name, and a contact sheet; those of --prompts-from get a number',
    ),
});

export function generateCommand(): Command {
  const command = new Command('generate').description(
    'Generate images that follow text and reference images. Flags may be written with hyphens or underscores.',
  );
  addFlags(command, schema);
  return command.action((flags) => run(flags));
}

type Options = Omit<z.output<typeof schema>, 'out' | 'from' | 'promptsFrom'>;

async function run(flags: Record<string, unknown>): Promise<void> {
  const { options, out, promptsFrom, batch, warnings } = await readOptions(flags);
  const prompts =
    promptsFrom === undefined
      ? undefined
      : readPrompts(promptsFrom, promptOptionsSchema).map((one, i) => {
          const { seed, numImages } = resolveOptions(
            promptOptionsSchema,
            { seed: options.seed, numImages: options.numImages, ...one },
            (name) => `${name} of prompt ${i + 1} in ${promptsFrom}`,
          );
          return { ...(one as PromptOptions), seed, numImages };
        });
  const { files, sheet } = filesFor(out, options, prompts);
  const { dir, name } = parse(out);
  const preview = format({ dir, name: `${name}-preview`, ext: '.png' });
  for (const file of sheet === undefined ? files : [...files, sheet]) assertCanWrite(file, '--out (out)');

  const progress = new StepProgress(process.stderr);
  await withCtrlC(async (signal) => {
    const shown: GeneratedImage[] = [];
    let written = 0;
    let previews = Promise.resolve();
    const save = async (images: readonly GeneratedImage[]): Promise<void> => {
      progress.stop();
      for (const image of images) {
        const file = files[written++] as string;
        await image.save(file);
        process.stdout.write(`${file}\n`);
        if (sheet !== undefined && fitsContactSheet(files.length, image)) shown.push(image);
      }
    };
    try {
      const onEvent = (event: RunEvent): void => {
        progress.onEvent(event);
        if (event.type === 'preview') previews = previews.then(() => writePreview(preview, event.images));
      };
      const context = { signal, onEvent };
      for (const warning of warnings) process.stderr.write(`${warning}\n`);
      // Loaded now: --help should not need LibTorch.
      const { generateBatches, generateInBatch } = await import('../generation/generate.js');
      if (batch !== undefined) await save([await generateInBatch(options, batch, context)]);
      else for await (const images of generateBatches(options, context, prompts)) await save(images);
      if (sheet === undefined) return;
      if (shown.length < files.length) {
        process.stderr.write(
          `No contact sheet: ${files.length} images of this size make one that is too large.\n`,
        );
        return;
      }
      await writeFile(sheet, await encodeImage(contactSheet(shown), sheet));
      process.stdout.write(`${sheet}\n`);
    } finally {
      progress.stop();
      await previews;
      await rm(preview, { force: true });
      if (written > 0 && written < files.length)
        process.stderr.write(`${written} of ${files.length} images were finished.\n`);
    }
  });
}

/** Reads flags, the file of `--config`, and the settings in the image of `--from`. */
async function readOptions(flags: Record<string, unknown>): Promise<{
  options: Options;
  out: string;
  promptsFrom: string | undefined;
  /** Where the image is repeated as it was: its row, and the batch's size. */
  batch: StoredSettings['batch'] | undefined;
  warnings: string[];
}> {
  const given = mergeFlags(schema, flags);
  const { from } = given.options;
  let { options: merged, shownAs } = given;
  let batch: StoredSettings['batch'] | undefined;
  let warnings: string[] = [];
  if (from !== undefined) {
    const { compareFiles, locatedOptions, readStoredSettings } = await import(
      '../generation/stored-settings.js'
    );
    const stored = await readStoredSettings(path.parse(from));
    ({ options: merged, shownAs } = mergeFlags(schema, flags, locatedOptions(stored)));
    warnings = compareFiles(stored, merged, (place) => place.replace(/^[a-zA-Z]+/, flagOf));
    const isAnother = ['seed', 'numImages', 'batchSize', 'promptsFrom'].some((key) => key in given.options);
    if (!isAnother) batch = stored.batch;
  }
  const { out, promptsFrom, from: _, ...options } = resolveOptions(schema, merged, shownAs);
  return { options, out, promptsFrom, batch, warnings };
}

/** Replaces the preview, in one step, so that a viewer never reads a part of it. */
async function writePreview(file: string, images: readonly RgbImage[]): Promise<void> {
  const partial = `${file}.partial`;
  await writeFile(partial, await encodePng(contactSheet(images)));
  await rename(partial, file);
}

/** Returns the names of all images, and of a contact sheet where there is to be one. */
function filesFor(
  out: string,
  { seed, numImages }: Options,
  prompts: readonly { seed: number; numImages: number }[] | undefined,
): { files: string[]; sheet?: string } {
  const { dir, name, ext } = parse(out);
  const suffixed = (...suffixes: (string | number)[]): string =>
    format({ dir, name: [name, ...suffixes].join('-'), ext });
  const seeds = (first: number, count: number): number[] =>
    Array.from({ length: count }, (_, i) => first + i);
  if (prompts === undefined)
    return numImages === 1
      ? { files: [out] }
      : { files: seeds(seed, numImages).map((one) => suffixed(one)), sheet: suffixed('sheet') };
  const digits = Math.max(4, String(prompts.length).length);
  const files = prompts.flatMap((prompt, i) => {
    const number = String(i + 1).padStart(digits, '0');
    return prompt.numImages === 1
      ? [suffixed(number)]
      : seeds(prompt.seed, prompt.numImages).map((one) => suffixed(number, one));
  });
  return { files };
}
