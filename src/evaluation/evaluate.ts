/**
 * @file Measures how well images follow their prompts (IP-Adapter, arXiv 2308.06721, section 4.1.2 and table 1): CLIP-I is
 * the cosine between a generated image and its image prompt, CLIP-T the one between it and the caption of that prompt.
 * Retrieval shows what a mean cosine does not: whether an image is closer to its own prompt than to every other.
 */
import { DatasetError } from '../base/errors.js';
import {
  type GuardedContext,
  partOf,
  type RunContext,
  type ScoreSet,
  withContext,
} from '../base/run-context.js';
import { mean } from '../base/statistics.js';
import type { DatasetRow } from '../data/dataset.js';
import { openDataset } from '../data/open-dataset.js';
import { releaseTensors } from '../generation/conditions.js';
import { IPAdapterPipeline } from '../generation/pipeline.js';
import { readImage } from '../images/image.js';
import { evaluateOptionsSchema, type ResolvedEvaluateOptions } from '../options/evaluate-options.js';
import { drawOptionsSchema } from '../options/generate-options.js';
import type { DrawOptions, EvaluateOptions, Job } from '../options/generate-types.js';
import { resolveOptions } from '../options/options.js';
import { tidy } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';
import {
  downloadMetrics,
  embedRows,
  type ImageEmbeddings,
  joined,
  Metrics,
  sameEncoderWarnings,
} from './metrics.js';
import { differencesOf, type RowValues, scoresOf, valuesOf } from './scores.js';

/** Means over all generated images. */
export interface Scores {
  /** The adapter; null is none. */
  adapter: string | null;
  /** Of the image prompt; 0 is without adapter. */
  scale: number;
  /** Cosine to its own image prompt, -1 … 1. It rewards copies: see `intervals.copies`. */
  clipI: number;
  /** Cosine to the image prompts of the other rows: what clipI would be if the prompt had no effect. */
  clipIOthers: number;
  /** Cosine to the caption, -1 … 1; null without a text encoder. */
  clipT: number | null;
  /** 2.5 · max(cosine to the caption, 0) (Hessel et al., arXiv 2104.08718): the paper's CLIP-T is of this size. */
  clipScore: number | null;
  /** Cosine to its own image prompt by DINO (Caron et al., arXiv 2104.14294), -1 … 1; null without `dinoEncoder`. */
  dino: number | null;
  /** Share of images whose own prompt is the closest of all rows' images, 0 … 1. */
  retrievalTop1: number;
  /** The scores with their 95 % intervals over the rows, and the share of copies. */
  intervals: ScoreSet;
  /** The same where each image has another row's prompt, but is compared with its own row. Null without adapter. */
  shuffled: ScoreSet | null;
}

/** How much higher an adapter scores than the first, with the same references, seeds and noise. */
export interface ScoreDifference {
  adapter: string;
  over: string;
  scale: number;
  differences: ScoreSet;
}

export interface Evaluation {
  /** For each scale of each adapter; scale 0 is in it once. */
  scores: Scores[];
  /** Of each adapter but the first, at each scale but 0. */
  differences: ScoreDifference[];
  /** Rows of the dataset that were used; chance of retrieval is 1 / rows. */
  rows: number;
  imagesPerRow: number;
  /** The CLIP that measured. */
  metricEncoder: string;
  options: ResolvedEvaluateOptions;
}

/**
 * Generates an image for each row of a dataset at each scale, and measures it. Every scale uses the same seeds.
 * @throws ConfigError, CheckpointError, DatasetError where an option, a model or a file is at fault
 */
export async function evaluate(options: EvaluateOptions, context: RunContext = {}): Promise<Evaluation> {
  return withContext(context, (guarded) => runEvaluation(options, guarded));
}

/** Images to generate for all rows. */
interface Task {
  adapter: string;
  scale: number;
  /** The image prompt of each is that of so many rows later. */
  shift: number;
}

async function runEvaluation(options: EvaluateOptions, context: GuardedContext): Promise<Evaluation> {
  const config = resolveOptions(evaluateOptionsSchema, options);
  const { imageEncoder, imagesPerRow, text } = config;
  const dataset = await openDataset(config, { signal: context.signal });
  const rowCount = Math.min(dataset.rows.length, config.maxRows);
  if (rowCount < 2)
    throw new DatasetError(
      `Expected 2 rows or more in ${config.dataset.join(', ')} but there is ${rowCount}: retrieval is among their images`,
    );
  const rows = Array.from({ length: rowCount }, (_, i) => dataset.rows.at(i) as DatasetRow);
  const metricEncoder = config.metricEncoder ?? imageEncoder;
  const option = config.metricEncoder === undefined ? undefined : '--metric-encoder (metricEncoder)';
  const sources = await downloadMetrics({ ...config, metricEncoder }, context, option);
  const target = resolveTarget(config);
  using metrics = Metrics.load(sources, target, option);

  const wanted = await embedRows(rows, metrics, context.signal);
  using _ = { [Symbol.dispose]: () => releaseTensors(wanted) };
  const [first = '', ...others] = config.adapter;
  // Images of text alone do not depend on the adapter.
  const scalesOf = (adapter: string): number[] =>
    adapter === first ? config.scales : config.scales.filter((scale) => scale !== 0);
  const tasks = [first, ...others].flatMap((adapter) =>
    scalesOf(adapter).flatMap((scale): Task[] => [
      { adapter, scale, shift: 0 },
      // Without text, an image of another row's prompt is that of the other row.
      ...(text === 'caption' && scale !== 0 ? [{ adapter, scale, shift: 1 }] : []),
    ]),
  );
  const values = new Map<string, RowValues>();
  const keyOf = (adapter: string, scale: number, shift = 0): string => `${shift} ${scale} ${adapter}`;
  const once = tellingOnce(context);
  for (const adapter of [first, ...others]) {
    using pipeline = await openPipeline(config, adapter, context);
    for (const [i, task] of tasks.entries()) {
      const { scale, shift } = task;
      if (task.adapter !== adapter) continue;
      const part = partOf(once, i, tasks.length);
      const drawn = await drawAndEmbed(pipeline, metrics, rows, { ...config, scale, shift }, part);
      tidy(() => {
        values.set(keyOf(adapter, scale, shift), valuesOf(drawn, wanted, imagesPerRow));
        if (text === 'none')
          values.set(keyOf(adapter, scale, 1), valuesOf(drawn, wanted, imagesPerRow, rowCount - 1));
      });
      releaseTensors(drawn);
    }
  }
  sameEncoderWarnings(imageEncoder, { ...config, metricEncoder }).forEach(context.onMessage);
  const at = (adapter: string, scale: number, shift = 0): RowValues =>
    values.get(keyOf(adapter, scale, shift)) as RowValues;
  const scores = [first, ...others].flatMap((adapter) =>
    scalesOf(adapter).map((scale): Scores => {
      const own = at(adapter, scale);
      return {
        ...(scale === 0 ? { adapter: null } : { adapter }),
        scale,
        ...meansOf(own),
        intervals: scoresOf(own),
        shuffled: scale === 0 ? null : scoresOf(at(adapter, scale, 1)),
      };
    }),
  );
  const differences = others.flatMap((adapter) =>
    scalesOf(adapter).map((scale): ScoreDifference => {
      return {
        adapter,
        over: first,
        scale,
        differences: differencesOf(at(adapter, scale), at(first, scale)),
      };
    }),
  );
  return { scores, differences, rows: rows.length, imagesPerRow, metricEncoder, options: config };
}

function openPipeline(
  { model, imageEncoder, loras, device, dtype, threads }: ResolvedEvaluateOptions,
  adapter: string,
  context: RunContext,
): Promise<IPAdapterPipeline> {
  return IPAdapterPipeline.load({ model, imageEncoder, adapter, loras, device, dtype, threads }, context);
}

/** Returns the means over the rows. */
function meansOf({
  clipI,
  clipIOthers,
  clipT,
  clipScore,
  dino,
  retrieval,
}: RowValues): Pick<Scores, 'clipI' | 'clipIOthers' | 'clipT' | 'clipScore' | 'dino' | 'retrievalTop1'> {
  return {
    clipI: mean(clipI),
    clipIOthers: mean(clipIOthers),
    clipT: clipT && mean(clipT),
    clipScore: clipScore && mean(clipScore),
    dino: dino && mean(dino),
    retrievalTop1: mean(retrieval),
  };
}

/** Returns embeddings row by row, `imagesPerRow` each; one batch of images is in memory at a time. */
async function drawAndEmbed(
  pipeline: IPAdapterPipeline,
  metrics: Metrics,
  rows: readonly DatasetRow[],
  config: ResolvedEvaluateOptions & { scale: number; shift: number },
  context: RunContext,
): Promise<ImageEmbeddings> {
  const { imagesPerRow, text, seed, batchSize, scale, shift, range } = config;
  const drawn = Object.keys(drawOptionsSchema.shape).map((key) => [key, config[key as keyof typeof config]]);
  const draw: DrawOptions = { ...Object.fromEntries(drawn), scale, range };
  const jobs = rows.flatMap((row, i) =>
    Array.from({ length: imagesPerRow }, (_, k) => ({
      prompt: text === 'caption' ? (row.captions[0] as string) : '',
      sources: scale === 0 ? [] : [(rows[(i + shift) % rows.length] as DatasetRow).promptImage],
      seed: seed + i * imagesPerRow + k,
    })),
  );
  const batches = Math.ceil(jobs.length / batchSize);
  const embeddings: ImageEmbeddings[] = [];
  using _ = { [Symbol.dispose]: () => releaseTensors(embeddings) };
  for (let i = 0; i < batches; i++) {
    const batch: Job[] = [];
    for (const { sources, ...job } of jobs.slice(i * batchSize, (i + 1) * batchSize))
      batch.push({ ...job, images: await Promise.all(sources.map(readImage)) });
    embeddings.push(
      metrics.embedImages(await pipeline.generateEach(batch, draw, partOf(context, i, batches))),
    );
  }
  return joined(embeddings);
}

/** Returns a context that passes a message on once: every batch of every scale has the same. */
function tellingOnce({ signal, onEvent }: RunContext): RunContext {
  const told = new Set<string>();
  return {
    signal,
    onEvent: (event) => {
      if (event.type === 'message') {
        if (told.has(event.text)) return;
        told.add(event.text);
      }
      onEvent?.(event);
    },
  };
}
