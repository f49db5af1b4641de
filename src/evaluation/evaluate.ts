/**
 * @file How well pictures follow their prompts (IP-Adapter, arXiv 2308.06721, section 4.1.2 and table 1): CLIP-I is the
 * cosine between a generated picture and its image prompt, CLIP-T that between it and the caption of that prompt. Retrieval
 * tells what a cosine cannot: whether the picture is nearer to its own prompt than to every other.
 */

import { DatasetError } from '../base/errors.js';
import type { DatasetRow } from '../data/dataset.js';
import { openDataset } from '../data/open-dataset.js';
import { downloadModels } from '../diffusion/download-models.js';
import { type GenerateHooks, IPAdapterPipeline } from '../generation/pipeline.js';
import { resolveModelPath } from '../hub/cache.js';
import type { DownloadHooks } from '../hub/download.js';
import { readImage } from '../images/image.js';
import {
  type EvaluateOptions,
  evaluateOptionsSchema,
  type ResolvedEvaluateOptions,
} from '../options/evaluate-options.js';
import type { Job } from '../options/generate-options.js';
import { resolveOptions } from '../options/options.js';
import { cat, type Tensor, tidy } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';
import { ClipMetric } from './clip-metric.js';

/** Means over all generated pictures. */
export interface Scores {
  /** Of the image prompt; 0 is without adapter. */
  scale: number;
  /** Cosine to the own prompt, -1 … 1. */
  clipI: number;
  /** Cosine to the prompts of the other rows: what clipI would be if the prompt did not count. */
  clipIOthers: number;
  /** Cosine to the caption, -1 … 1; null without a text encoder. */
  clipT: number | null;
  /** 2.5 · max(cosine to the caption, 0) (Hessel et al., arXiv 2104.08718): the paper's CLIP-T is of this size. */
  clipScore: number | null;
  /** Share of pictures whose own prompt is the nearest of all rows' pictures, 0 … 1. */
  retrievalTop1: number;
}

export interface Evaluation {
  /** A row for each scale. */
  scores: Scores[];
  /** Rows of the dataset, among which retrieval is; chance is 1 / rows. */
  rows: number;
  imagesPerRow: number;
  /** What measured. */
  metricEncoder: string;
  options: ResolvedEvaluateOptions;
}

/**
 * Draws a picture for each row of a dataset at each scale, and measures. The same seeds serve every scale.
 * @throws ConfigError, CheckpointError, DatasetError where an option, a model or a file is at fault
 */
export async function evaluate(
  options: EvaluateOptions,
  { signal, onStep, onMessage }: GenerateHooks & DownloadHooks = {},
): Promise<Evaluation> {
  const config = resolveOptions(evaluateOptionsSchema, options);
  const { model, imageEncoder, adapter, device, dtype, threads, imagesPerRow } = config;
  const dataset = await openDataset(config, { signal });
  const rowCount = Math.min(dataset.rows.length, config.maxRows);
  if (rowCount < 2)
    throw new DatasetError(
      `Expected 2 rows or more, whose pictures can be told apart, in ${config.dataset ?? config.dataJsonFile} but there is ${rowCount}`,
    );
  const rows = Array.from({ length: rowCount }, (_, i) => dataset.rows.at(i) as DatasetRow);
  const metricEncoder = config.metricEncoder ?? imageEncoder;
  const hooks = { signal, onMessage };
  const textEncoder = config.metricTextEncoder;
  await downloadModels({ imageEncoder: metricEncoder, textEncoder }, hooks);
  using metric = ClipMetric.load(
    resolveModelPath(metricEncoder),
    textEncoder && resolveModelPath(textEncoder),
    resolveTarget(config),
  );
  using pipeline = await IPAdapterPipeline.load(
    { model, imageEncoder, adapter, device, dtype, threads },
    hooks,
  );

  const prompts = await embedPictures(rows, metric);
  const captions = metric.readsText
    ? metric.embedTexts(rows.map(({ captions }) => captions[0] as string))
    : null;
  const scores: Scores[] = [];
  for (const [i, scale] of config.scale.entries()) {
    const report: GenerateHooks['onStep'] = ({ step, totalSteps }) =>
      onStep?.({ step: i * totalSteps + step, totalSteps: config.scale.length * totalSteps });
    const drawn = await drawAndEmbed(
      pipeline,
      metric,
      rows,
      { ...config, scale },
      { signal, onStep: report },
    );
    scores.push({ scale, ...tidy(() => measure(drawn, prompts, captions, imagesPerRow)) });
    drawn.dispose();
  }
  for (const one of [prompts, captions]) one?.dispose();
  return { scores, rows: rows.length, imagesPerRow, metricEncoder, options: config };
}

/** [rows, d]; one picture in memory at a time */
async function embedPictures(rows: readonly DatasetRow[], metric: ClipMetric): Promise<Tensor> {
  const embeddings: Tensor[] = [];
  for (const { promptImage } of rows) embeddings.push(metric.embedImages([await readImage(promptImage)]));
  return catAndDispose(embeddings);
}

/** [rows × imagesPerRow, d], the pictures of a row one after the other; one batch of pictures in memory at a time */
async function drawAndEmbed(
  pipeline: IPAdapterPipeline,
  metric: ClipMetric,
  rows: readonly DatasetRow[],
  config: Omit<ResolvedEvaluateOptions, 'scale'> & { scale: number },
  { signal, onStep }: GenerateHooks,
): Promise<Tensor> {
  const { imagesPerRow, text, seed, batchSize, scale } = config;
  const { negativePrompt, guidanceScale, steps, scheduler, start, end, width, height } = config;
  const draw = {
    negativePrompt,
    guidanceScale,
    steps,
    scheduler,
    start,
    end,
    width,
    height,
    batchSize,
    scale,
    signal,
  };
  const jobs = rows.flatMap((row, i) =>
    Array.from({ length: imagesPerRow }, (_, k) => ({
      prompt: text === 'caption' ? (row.captions[0] as string) : '',
      sources: scale === 0 ? [] : [row.promptImage],
      seed: seed + i * imagesPerRow + k,
    })),
  );
  const batches = Math.ceil(jobs.length / batchSize);
  const embeddings: Tensor[] = [];
  for (let i = 0; i < batches; i++) {
    const report: GenerateHooks['onStep'] = ({ step, totalSteps }) =>
      onStep?.({ step: i * totalSteps + step, totalSteps: batches * totalSteps });
    const batch: Job[] = [];
    for (const { sources, ...job } of jobs.slice(i * batchSize, (i + 1) * batchSize))
      batch.push({ ...job, imagePrompts: await Promise.all(sources.map(readImage)) });
    embeddings.push(metric.embedImages(await pipeline.generateEach(batch, { ...draw, onStep: report })));
  }
  return catAndDispose(embeddings);
}

function catAndDispose(parts: readonly Tensor[]): Tensor {
  const whole = cat(parts);
  for (const part of parts) part.dispose();
  return whole;
}

/** @param drawn [rows × imagesPerRow, d]; @param prompts and captions: [rows, d]; all rows of length 1 */
export function measure(
  drawn: Tensor,
  prompts: Tensor,
  captions: Tensor | null,
  imagesPerRow: number,
): Omit<Scores, 'scale'> {
  const rows = prompts.shape[0] as number;
  const pictures = rows * imagesPerRow;
  const own = (i: number): number => Math.floor(i / imagesPerRow);
  const toPrompts = drawn.matmul(prompts.transpose(0, 1));
  const cosines = toPrompts.toNumbers();
  const toOwn = Array.from({ length: pictures }, (_, i) => cosines[i * rows + own(i)] as number);
  const nearest = toPrompts.argmax(1).toNumbers();
  const toCaptions = captions && drawn.matmul(captions.transpose(0, 1)).toNumbers();
  const toCaption = toCaptions && toOwn.map((_, i) => toCaptions[i * rows + own(i)] as number);
  return {
    clipI: sum(toOwn) / pictures,
    clipIOthers: (sum(cosines) - sum(toOwn)) / (pictures * (rows - 1)),
    clipT: toCaption && sum(toCaption) / pictures,
    clipScore: toCaption && (2.5 * sum(toCaption.map((cosine) => Math.max(cosine, 0)))) / pictures,
    retrievalTop1: nearest.filter((row, i) => row === own(i)).length / pictures,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
