/** @file `ip-adapter publish`: puts a checkpoint on the Hub as a model, with a card that is written from it. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { formatBytes } from '../base/format-bytes.js';
import { readJsonObject } from '../base/json.js';
import { cachedSnapshot, parseHubName } from '../hub/cache.js';
import type { Published } from '../hub/publish.js';
import { withCtrlC } from './abort.js';
import type { Card, CardEvaluation, ModelName } from './model-card.js';

interface Flags {
  dryRun?: true | undefined;
  private?: true | undefined;
  images?: string[] | undefined;
  evaluation?: string | undefined;
  license?: string | undefined;
}

export function publishCommand(): Command {
  return new Command('publish')
    .description('Publish a checkpoint on the Hub, with a model card: options, data size, measures, samples.')
    .argument('<checkpoint>', 'checkpoint, or output folder of train (its newest checkpoint)')
    .argument('<name>', 'model on the Hub, org/name; it is created where it does not exist')
    .option('--dry-run', 'show what would be published, and send nothing')
    .option('--private', 'create the model as a private one')
    .option(
      '--images <file...>',
      'sample images for the card; default: the validation sheet of the checkpoint',
    )
    .option('--evaluation <file>', 'JSON file of evaluate, for the measures in the card')
    .option('--license <id>', 'licence in the card, such as apache-2.0 or openrail')
    .action((checkpoint, name, flags) => run(checkpoint, name, flags)) as unknown as Command;
}

async function run(source: string, name: string, flags: Flags): Promise<void> {
  const say = (text: string) => void process.stderr.write(`${text}\n`);
  if (!/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(name))
    throw new ConfigError(`The name is ${name}; it must be a model on the Hub, org/name`);
  if (flags.license !== undefined && !/^[\w.-]+$/.test(flags.license))
    throw new ConfigError(`--license is ${flags.license}; it must be a name such as apache-2.0`);
  const files = await filesOf(source, name, flags, say);
  for (const { path, content } of files) {
    const size = content instanceof Uint8Array ? content.length : statSync(content.file).size;
    say(`${path.padEnd(32)}${formatBytes(size).padStart(10)}`);
  }
  if (flags.dryRun) {
    process.stdout.write(files[0]?.content as Uint8Array);
    say(`Nothing was sent to ${name}: --dry-run`);
    return;
  }
  await withCtrlC(async (signal) => {
    const { publish } = await import('../hub/publish.js');
    const options = { isPrivate: flags.private === true, title: 'Publish an IP-Adapter' };
    process.stdout.write(`${await publish(name, files, options, { onMessage: say, signal })}\n`);
  });
}

/** Returns the files to publish, the card first. */
async function filesOf(
  source: string,
  repo: string,
  { images, evaluation, license }: Flags,
  say: (text: string) => void,
): Promise<Published[]> {
  const { adapterFileOf } = await import('../adapters/adapter-path.js');
  const { readAdapter, trainedWith } = await import('../adapters/adapter-file.js');
  const { peerLimits } = await import('../adapters/peer-limits.js');
  const { describeAdapter, families } = await import('../adapters/kinds.js');
  const { readTrainingState } = await import('../training/checkpoints/checkpoint.js');
  const { measuredAt } = await import('../training/read-run.js');
  const { modelCard } = await import('./model-card.js');

  const file = adapterFileOf(source, say);
  const folder = dirname(file);
  if (basename(file) !== 'ip_adapter.safetensors' || !existsSync(join(folder, 'training_state.json')))
    throw new ConfigError(
      `Expected a checkpoint of train at ${source}, with ip_adapter.safetensors and training_state.json, but it is ${file}; its card is written from what the checkpoint says`,
    );
  const { step, dataset, options } = readTrainingState(folder);
  const tensors = readAdapter(file);
  const adapter = describeAdapter(tensors);
  if (adapter === null) throw new ConfigError(`${file} is not an adapter of a known kind`);
  const sheet = join(dirname(folder), 'validation', `step-${step}.png`);
  const samples = images ?? (existsSync(sheet) ? [sheet] : []);
  const pngs = await Promise.all(
    samples.map(async (sample, i) => ({ path: `samples/${i + 1}.png`, content: await pixelsOf(sample) })),
  );
  const ema = join(folder, 'ip_adapter_ema.safetensors');
  const hasAverage = existsSync(ema);
  const { imageEncoder = 'clip' } = trainedWith(file);
  const card: Card = {
    limits: imageEncoder === 'clip' ? peerLimits(tensors) : notClip(imageEncoder),
    ...{ repo, adapter, step, rows: dataset.rows, options, license, hasAverage },
    family: families.get(adapter.sizes.crossAttentionDim ?? 0),
    model: shownName(options.model),
    imageEncoder: shownName(options.imageEncoder),
    startedFrom: options.adapter === undefined ? undefined : shownName(options.adapter),
    ...measuredAt(dirname(folder), step),
    evaluation: evaluation === undefined ? undefined : readEvaluation(evaluation),
    samples: pngs.map(({ path }) => path),
  };
  return [
    { path: 'README.md', content: Buffer.from(modelCard(card)) },
    { path: 'ip_adapter.safetensors', content: { file } },
    ...(hasAverage ? [{ path: 'ip_adapter_ema.safetensors', content: { file: ema } }] : []),
    ...pngs,
  ];
}

/** Returns an image as PNG without what its file says beside it: a generated image has its settings, with paths, in it. */
async function pixelsOf(file: string): Promise<Uint8Array> {
  const { default: sharp } = await import('sharp');
  try {
    return await sharp(file).png().toBuffer();
  } catch (cause) {
    throw new ConfigError(
      `--images has ${file}, which is not an image that can be read: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Returns a name on the Hub that the run has read from its cache; of a path, the last part alone. */
function shownName(value: unknown): ModelName {
  const name = String(value);
  const hubName = existsSync(name) ? null : parseHubName(name);
  const isOnHub = hubName !== null && cachedSnapshot(hubName.repo) !== null;
  return { name: isOnHub ? name : basename(name), isOnHub };
}

function notClip(imageEncoder: string): string[] {
  return ['diffusers', 'ComfyUI'].map(
    (program) =>
      `${program} cannot load this adapter: it reads a CLIP image encoder, and this one is ${imageEncoder}`,
  );
}

const evaluationSchema = z.object({
  rows: z.number(),
  scores: z
    .array(
      z.object({
        adapter: z.string().nullable(),
        ...{ scale: z.number(), clipI: z.number(), clipIOthers: z.number(), retrievalTop1: z.number() },
      }),
    )
    .min(1),
});

/** @throws ConfigError where the file is not of evaluate, or is of several adapters */
function readEvaluation(file: string): CardEvaluation {
  const parsed = evaluationSchema.safeParse(readJsonObject(file, ConfigError));
  if (!parsed.success)
    throw new ConfigError(`--evaluation is ${file}; it must be a file of ip-adapter evaluate --out`);
  const adapters = new Set(parsed.data.scores.flatMap(({ adapter }) => adapter ?? []));
  if (adapters.size > 1)
    throw new ConfigError(
      `--evaluation is ${file}, with the scores of ${adapters.size} adapters; it must have those of the published one alone`,
    );
  return parsed.data;
}
