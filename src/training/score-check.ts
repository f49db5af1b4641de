/** @file Scores by drawing: generates from held-out references during a run, and measures what comes out. */
import { CheckpointError, DatasetError, UserError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { GuardedContext, ScoreSet, ScoresEvent } from '../base/run-context.js';
import type { DatasetRow, Rows } from '../data/dataset.js';
import { readReference } from '../data/reference-image.js';
import { referenceOptions } from '../data/reference-options.js';
import { inOrder, type Processes } from '../distributed/processes.js';
import {
  downloadMetrics,
  embedRows,
  type ImageEmbeddings,
  Metrics,
  sameEncoderWarnings,
  type Wanted,
} from '../evaluation/metrics.js';
import { scoresOf, valuesOf } from '../evaluation/scores.js';
import { releaseTensors } from '../generation/conditions.js';
import { type Tensor, tensor, tidy, trimMemory } from '../torch/index.js';
import type { Drawing, DrawingJob, PromptBatch } from './drawing.js';
import type { PreparedRun } from './prepare.js';

/** Not the run's: images of all runs start from the same noise. */
const SEED = 17;

/**
 * Encodes the references of held-out rows; each process those of some rows.
 * @returns undefined where no scores are asked for
 * @throws DatasetError where fewer than two rows can be read; CheckpointError where an encoder is at fault
 */
export async function openScoreCheck(
  { drawing, heldOut, placement, processes, training: { config } }: PreparedRun,
  context: GuardedContext,
): Promise<ScoreCheck | undefined> {
  const { validationScores, imageEncoder, validationScales } = config;
  if (validationScores === undefined || drawing === undefined || heldOut === undefined) return undefined;
  const named = { ...config, metricEncoder: config.metricEncoder ?? imageEncoder };
  sameEncoderWarnings(imageEncoder, named).forEach(context.onMessage);
  const option = config.metricEncoder === undefined ? undefined : '--metric-encoder (metricEncoder)';
  const sources = await processes.together(() => downloadMetrics(named, context, option));
  const target = { device: placement.device, dtype: 'float32' as const };
  const references = referenceOptions(config);
  // As the adapter is trained on them: cut and cleared by their masks.
  const read = (row: DatasetRow): Promise<RgbImage> => readReference(row, references);
  const rows = await readableRows(heldOut.rows, read, validationScores, context);
  using metrics = Metrics.load(sources, target, option);
  const wanted = await embedRows(rows, metrics, context.signal, read);
  const { rank, worldSize } = processes;
  const own = rows.flatMap((row, i) => (i % worldSize === rank ? [{ row, seed: SEED + i }] : []));
  const batches = await drawing.withEncoders(async (encode) => {
    const encoded: Batches = { adapter: [], noAdapter: [] };
    const { batchSize } = drawing.settings;
    for (let first = 0; first < own.length; first += batchSize) {
      const jobs: DrawingJob[] = [];
      for (const { row, seed } of own.slice(first, first + batchSize))
        jobs.push({ prompt: '', image: await read(row), seed });
      encoded.adapter.push(await encode(jobs));
      encoded.noAdapter.push(await encode(jobs.map((job) => ({ ...job, image: null }))));
    }
    return encoded;
  });
  const embed = (images: readonly RgbImage[]): ImageEmbeddings => {
    using loaded = Metrics.load(sources, target, option);
    return loaded.embedImages(images);
  };
  // The last one: the strength that a user looks for.
  const scale = validationScales.at(-1) as number;
  return new ScoreCheck({ drawing, embed, wanted, rows: rows.length, batches, scale, processes, context });
}

/** Returns the first rows whose reference image can be read. */
async function readableRows(
  rows: Rows,
  read: (row: DatasetRow) => Promise<RgbImage>,
  count: number,
  context: GuardedContext,
): Promise<DatasetRow[]> {
  const readable: DatasetRow[] = [];
  for (const row of rows) {
    if (readable.length === count) break;
    context.signal.throwIfAborted();
    try {
      await read(row);
      readable.push(row);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      context.onMessage(`Not scored: ${error.message}`);
    }
  }
  if (readable.length < 2)
    throw new DatasetError(
      `Expected 2 held-out rows or more that can be read for --validation-scores (validationScores) but there is ${readable.length}: retrieval is among their images`,
    );
  return readable;
}

type Batches = Record<'adapter' | 'noAdapter', PromptBatch[]>;

interface Parts {
  drawing: Drawing;
  /** Loads the encoders that measure, and releases them. */
  embed(images: readonly RgbImage[]): ImageEmbeddings;
  wanted: Wanted;
  /** Of all processes. */
  rows: number;
  /** Of this process's rows. */
  batches: Batches;
  scale: number;
  processes: Processes;
  context: Pick<GuardedContext, 'signal' | 'onMessage'>;
}

/** Why there are no scores; '' for a signal. */
class Unscored extends Error {}

/** Scores of one step. */
export type ScoreReport = Pick<ScoresEvent, 'rows' | 'adapter' | 'shuffled' | 'noAdapter'>;

export class ScoreCheck implements Disposable {
  readonly #parts: Parts;
  /** Training does not change it. */
  #noAdapter: ScoreSet | undefined;

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Returns the scores of the adapter as it is now; undefined where a signal ended it early, or a part makes NaN. */
  async measure(step: number): Promise<ScoreReport | undefined> {
    const { wanted, rows, batches, context } = this.#parts;
    try {
      this.#noAdapter ??= scoresOf(
        await this.#values(batches.noAdapter, (drawn) => valuesOf(drawn, wanted, 1)),
      );
      const [own, others] = await this.#values(batches.adapter, (drawn) => [
        valuesOf(drawn, wanted, 1),
        // Without text, the image of another row's reference is the image of that row.
        valuesOf(drawn, wanted, 1, rows - 1),
      ]);
      return { rows, adapter: scoresOf(own), shuffled: scoresOf(others), noAdapter: this.#noAdapter };
    } catch (error) {
      if (!(error instanceof Unscored)) throw error;
      if (error.message !== '') context.onMessage(`No scores after step ${step}: ${error.message}`);
      return undefined;
    } finally {
      // The largest blocks are the VAE's, and training has no use for them.
      trimMemory();
    }
  }

  /**
   * Generates the images of all processes, and returns what `work` makes of their embeddings.
   * @throws Unscored on all processes, where one of them did not draw its images
   */
  async #values<T>(batches: readonly PromptBatch[], work: (drawn: ImageEmbeddings) => T): Promise<T> {
    const { rows, processes } = this.#parts;
    const drawn = await processes.gatherJson(await processes.together(() => this.#drawn(batches)));
    const fault = drawn.find(({ fault }) => fault !== undefined)?.fault;
    if (fault !== undefined) throw new Unscored(fault);
    const lists = inOrder(
      drawn.map(({ lists }) => lists),
      rows,
    );
    return tidy(() => work(embeddingsOf(lists)));
  }

  /** Generates this process's images. @returns their embeddings, or why there are none: '' for a signal */
  async #drawn(batches: readonly PromptBatch[]): Promise<{ lists: Lists[]; fault?: string }> {
    const { drawing, embed, scale, context } = this.#parts;
    try {
      const images = await drawing.draw(batches, scale, context.signal);
      return { lists: tidy(() => rowsOf(embed(images))) };
    } catch (error) {
      if (context.signal.aborted) return { lists: [], fault: '' };
      // No score is worth a run, whose own guard looks for NaN.
      if (error instanceof CheckpointError) return { lists: [], fault: error.message };
      throw error;
    }
  }

  [Symbol.dispose](): void {
    releaseTensors([this.#parts.wanted, this.#parts.batches]);
  }
}

type Lists = Record<string, number[]>;

/** Returns the embeddings of each image, as processes send them. */
function rowsOf(embeddings: ImageEmbeddings): Lists[] {
  const [count = 0] = embeddings.clip.shape;
  const all = Object.entries(embeddings).map(([name, rows]) => [name, (rows as Tensor).toNumbers()] as const);
  return Array.from({ length: count }, (_, i) =>
    Object.fromEntries(
      all.map(([name, numbers]) => {
        const width = numbers.length / count;
        return [name, numbers.slice(i * width, (i + 1) * width)];
      }),
    ),
  );
}

function embeddingsOf(lists: readonly Lists[]): ImageEmbeddings {
  const names = Object.keys(lists[0] as Lists);
  return Object.fromEntries(
    names.map((name) => {
      const numbers = lists.flatMap((list) => list[name] as number[]);
      return [name, tensor(numbers, [lists.length, numbers.length / lists.length])];
    }),
  ) as unknown as ImageEmbeddings;
}
