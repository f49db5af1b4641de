/**
 * @file Measures how well images follow their prompts (IP-Adapter, arXiv 2308.06721, section 4.1.2 and table 1): CLIP-I is
 * the cosine between a generated image and its image prompt, CLIP-T the one between it and the caption of that prompt.
 * Retrieval shows what a mean cosine does not: whether an image is closer to its own prompt than to every other.
 */
import { DatasetError } from '../base/errors.js';
import { type GuardedContext, partOf, type RunContext, withContext } from '../base/run-context.js';
import type { DatasetRow } from '../data/dataset.js';
import { openDataset } from '../data/open-dataset.js';
import { downloadModels } from '../diffusion/download-models.js';
import { IPAdapterPipeline } from '../generation/pipeline.js';
import { readImage } from '../images/image.js';
import { evaluateOptionsSchema, type ResolvedEvaluateOptions } from '../options/evaluate-options.js';
import { drawOptionsSchema } from '../options/generate-options.js';
import type { DrawOptions, EvaluateOptions, Job } from '../options/generate-types.js';
import { resolveOptions } from '../options/options.js';
import { cat, type Tensor, tidy } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';
import { ClipMetric } from './clip-metric.js';

/** Means over all generated images. */
export interface Scores {
  /** Of the image prompt; 0 is without adapter. */
  scale: number;
  /** Cosine to its own image prompt, -1 … 1. */
  clipI: number;
  /** Cosine to the image prompts of the other rows: what clipI would be if the prompt had no effect. */
  clipIOthers: number;
  /** Cosine to the caption, -1 … 1; null without a text encoder. */
  clipT: number | null;
  /** 2.5 · max(cosine to the caption, 0) (Hessel et al., arXiv 2104.08718): the paper's CLIP-T is of this size. */
  clipScore: number | null;
  /** Share of images whose own prompt is the closest of all rows' images, 0 … 1. */
  retrievalTop1: number;
}

export interface Evaluation {
  /** A row for each scale. */
  scores: Scores[];
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

async function runEvaluation(options: EvaluateOptions, context: GuardedContext): Promise<Evaluation> {
  const config = resolveOptions(evaluateOptionsSchema, options);
  const { model, imageEncoder, adapter, loras, device, dtype, threads, imagesPerRow } = config;
  const dataset = await openDataset(config, { signal: context.signal });
  const rowCount = Math.min(dataset.rows.length, config.maxRows);
  if (rowCount < 2)
    throw new DatasetError(
      `Expected 2 rows or more in ${config.dataset.join(', ')} but there is ${rowCount}: retrieval is among their images`,
    );
  const rows = Array.from({ length: rowCount }, (_, i) => dataset.rows.at(i) as DatasetRow);
  const metricEncoder = config.metricEncoder ?? imageEncoder;
  const textEncoder = config.metricTextEncoder;
  const paths = await downloadModels({ imageEncoder: metricEncoder, textEncoder }, context);
  using metric = ClipMetric.load(
    paths.get('imageEncoder') as string,
    paths.get('textEncoder'),
    resolveTarget(config),
    config.metricEncoder === undefined ? undefined : '--metric-encoder (metricEncoder)',
  );
  using pipeline = await IPAdapterPipeline.load(
    { model, imageEncoder, adapter, loras, device, dtype, threads },
    context,
  );

  const prompts = await embedReferences(rows, metric, context.signal);
  const captions = metric.readsText
    ? metric.embedTexts(rows.map(({ captions }) => captions[0] as string))
    : null;
  const scores: Scores[] = [];
  using _ = { [Symbol.dispose]: () => disposeAll([prompts, captions]) };
  const once = tellingOnce(context);
  for (const [i, scale] of config.scales.entries()) {
    const scaled = { ...config, scale };
    const part = partOf(once, i, config.scales.length);
    const drawn = await drawAndEmbed(pipeline, metric, rows, scaled, part);
    scores.push({ scale, ...tidy(() => measure(drawn, prompts, captions, imagesPerRow)) });
    drawn.dispose();
  }
  return { scores, rows: rows.length, imagesPerRow, metricEncoder, options: config };
}

/** Returns the embeddings of the image prompts, [rows, d]; one image is in memory at a time. */
async function embedReferences(
  rows: readonly DatasetRow[],
  metric: ClipMetric,
  signal: AbortSignal,
): Promise<Tensor> {
  const embeddings: Tensor[] = [];
  using _ = { [Symbol.dispose]: () => disposeAll(embeddings) };
  for (const { promptImage } of rows) {
    embeddings.push(metric.embedImages([await readImage(promptImage)]));
    signal.throwIfAborted();
  }
  return cat(embeddings);
}

/** Returns embeddings [rows × imagesPerRow, d], row by row; one batch of images is in memory at a time. */
async function drawAndEmbed(
  pipeline: IPAdapterPipeline,
  metric: ClipMetric,
  rows: readonly DatasetRow[],
  config: ResolvedEvaluateOptions & { scale: number },
  context: RunContext,
): Promise<Tensor> {
  const { imagesPerRow, text, seed, batchSize, scale, range } = config;
  const drawn = Object.keys(drawOptionsSchema.shape).map((key) => [key, config[key as keyof typeof config]]);
  const draw: DrawOptions = { ...Object.fromEntries(drawn), scale, range };
  const jobs = rows.flatMap((row, i) =>
    Array.from({ length: imagesPerRow }, (_, k) => ({
      prompt: text === 'caption' ? (row.captions[0] as string) : '',
      sources: scale === 0 ? [] : [row.promptImage],
      seed: seed + i * imagesPerRow + k,
    })),
  );
  const batches = Math.ceil(jobs.length / batchSize);
  const embeddings: Tensor[] = [];
  using _ = { [Symbol.dispose]: () => disposeAll(embeddings) };
  for (let i = 0; i < batches; i++) {
    const batch: Job[] = [];
    for (const { sources, ...job } of jobs.slice(i * batchSize, (i + 1) * batchSize))
      batch.push({ ...job, images: await Promise.all(sources.map(readImage)) });
    embeddings.push(
      metric.embedImages(await pipeline.generateEach(batch, draw, partOf(context, i, batches))),
    );
  }
  return cat(embeddings);
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

function disposeAll(tensors: readonly (Tensor | null)[]): void {
  for (const tensor of tensors) tensor?.dispose();
}

/**
 * Returns the scores of generated images.
 * @param drawn [rows × imagesPerRow, d], all rows of length 1
 * @param prompts and captions: [rows, d], all rows of length 1
 */
export function measure(
  drawn: Tensor,
  prompts: Tensor,
  captions: Tensor | null,
  imagesPerRow: number,
): Omit<Scores, 'scale'> {
  const rows = prompts.shape[0] as number;
  const count = rows * imagesPerRow;
  const own = (i: number): number => Math.floor(i / imagesPerRow);
  const toPrompts = drawn.matmul(prompts.transpose(0, 1));
  const cosines = toPrompts.toNumbers();
  const toOwn = Array.from({ length: count }, (_, i) => cosines[i * rows + own(i)] as number);
  const nearest = toPrompts.argmax(1).toNumbers();
  const toCaptions = captions && drawn.matmul(captions.transpose(0, 1)).toNumbers();
  const toCaption = toCaptions && toOwn.map((_, i) => toCaptions[i * rows + own(i)] as number);
  return {
    clipI: sum(toOwn) / count,
    clipIOthers: (sum(cosines) - sum(toOwn)) / (count * (rows - 1)),
    clipT: toCaption && sum(toCaption) / count,
    clipScore: toCaption && (2.5 * sum(toCaption.map((cosine) => Math.max(cosine, 0)))) / count,
    retrievalTop1: nearest.filter((row, i) => row === own(i)).length / count,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
