/**
 * @file Training steps of several processes, which together do what one process does. Each computes the gradients of its rows
 * of the global batch, and one all-reduce adds them up:
 *
 *     [ gradients … | loss, stopping, failed, requested | loss of each row … | weight of each row that came … ]
 *
 * With `reduceDtype` the gradients are added up in bfloat16, apart from the rest, as PyTorch's `bf16_compress_hook` does
 * (torch/distributed/algorithms/ddp_comm_hooks/default_hooks.py).
 *
 * The sums are the same to the bit on all ranks, so all decide alike: to update, to skip a batch, to stop, to give up.
 */

import { shareOf } from '../data/batch-plan.js';
import type { Batch, DataLoader } from '../data/data-loader.js';
import type { ProcessGroup } from '../distributed/process-group.js';
import {
  type Device,
  type DType,
  empty,
  full,
  noGrad,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from '../torch/index.js';
import type { StepMetrics } from './reports/step-reporter.js';
import { beforeStep, computeGradients, drawForOthers, type Training, updateWeights } from './step.js';
import { AgreedError, BatchFailure, type StepOutcome, type Steps } from './steps.js';

/** The places of numbers in the buffer's tail; those of rows begin at TAIL. */
const [LOSS, STOPPING, FAILED, REQUESTED, TAIL] = [0, 1, 2, 3, 4] as const;

interface GroupStepsOptions {
  group: ProcessGroup;
  loader: DataLoader;
  /** Rows of a full global batch. */
  rowsPerStep: number;
  placement: { device: Device; dtype: DType };
  /** Asks this process, and so all of them, to stop. */
  signal: AbortSignal;
  /** Whether this process, rank 0, was asked for something. */
  hasRequests: () => boolean;
}

export class GroupSteps implements Steps {
  readonly #training: Training;
  readonly #options: GroupStepsOptions;
  readonly #buffer: Tensor;
  readonly #gradients: Tensor;
  readonly #tail: Tensor;
  /** The gradients as they are sent, with `reduceDtype`. */
  readonly #halved: Tensor | undefined;
  /** Whether a process was asked to stop before the last step. */
  isStopping = false;
  isRequested = false;
  /** The unreadable rows that all processes know of. */
  readonly #knownBadRows = new Set<number>();

  /** @param training with `keepsGradients` */
  constructor(training: Training, options: GroupStepsOptions) {
    this.#training = training;
    this.#options = options;
    const parameters = training.adapter.parameters();
    const numel = parameters.reduce((sum, parameter) => sum + parameter.numel, 0);
    const length = numel + TAIL + 2 * options.rowsPerStep;
    this.#buffer = zeros([length], { device: options.placement.device });
    this.#gradients = this.#buffer.slice(0, 0, numel);
    this.#tail = this.#buffer.slice(0, numel, length);
    if (training.config.reduceDtype === 'bf16')
      this.#halved = empty([numel], { device: options.placement.device, dtype: 'bfloat16' });
    tidy(() => {
      let start = 0;
      // Autograd adds to a gradient that exists in place, so that nothing is copied.
      for (const parameter of parameters) {
        const end = start + parameter.numel;
        parameter.grad = this.#gradients.slice(0, start, end).view(...parameter.shape);
        start = end;
      }
    });
  }

  /**
   * Takes one step together with the other processes.
   * @param step the number of the step, from 1
   * @param onReducing is called while the gradients are added up
   * @throws AgreedError on all processes where one failed; ProcessGroupError where one is lost; as `updateWeights`
   */
  async take(
    planned: Batch | BatchFailure,
    step: number,
    onReducing: () => void = () => {},
  ): Promise<StepOutcome> {
    const restore = beforeStep(this.#training, step);
    try {
      return await this.#take(planned, step, onReducing, restore);
    } catch (error) {
      throw restore(error);
    }
  }

  async #take(
    planned: Batch | BatchFailure,
    step: number,
    onReducing: () => void,
    restore: (error: unknown) => unknown,
  ): Promise<StepOutcome> {
    const { group, rowsPerStep, signal, hasRequests } = this.#options;
    const tail = new Float32Array(TAIL + 2 * rowsPerStep);
    tail[STOPPING] = Number(signal.aborted);
    tail[REQUESTED] = Number(hasRequests());
    let timesteps: Tensor | undefined;
    let failure: unknown;
    try {
      if (planned instanceof BatchFailure) throw planned.error;
      timesteps = tidy(() => this.#computeGradients(planned, tail));
    } catch (error) {
      failure = error;
      tail[FAILED] = 1;
      await group.reportFailure(error);
    }
    tidy(() => void this.#tail.copy_(tensor(tail, [tail.length])));
    try {
      const reducing = this.#reduce();
      onReducing();
      await reducing;
      const sums = this.#tail.toNumbers();
      if (sums[FAILED] !== 0) throw new AgreedError(failure ?? (await group.failureOfOthers()));
      const batch = planned as Batch;
      const came = range(batch.planned).filter((place) => sums[TAIL + rowsPerStep + place] !== 0);
      if (came.length < batch.planned) await this.#shareBadRows();
      const metrics = tidy(() => this.#update(batch, timesteps as Tensor, sums, came, step));
      // Noise is drawn for no row in a run of one process, too.
      if (came.length === 0) restore(null);
      this.isStopping = sums[STOPPING] !== 0;
      this.isRequested = sums[REQUESTED] !== 0;
      return { metrics, rows: came.length };
    } finally {
      timesteps?.dispose();
      if (failure !== undefined || timesteps === undefined) this.#clear();
    }
  }

  /** Replaces the buffer by the sum of all processes'. */
  async #reduce(): Promise<void> {
    const { group } = this.#options;
    const halved = this.#halved;
    if (halved === undefined) return group.allReduce(this.#buffer);
    tidy(() => void halved.copy_(this.#gradients));
    // The tail stays exact: processes decide by it.
    await Promise.all([group.allReduce(halved), group.allReduce(this.#tail)]);
    using _ = noGrad();
    tidy(() => void this.#gradients.copy_(halved));
  }

  /** Adds the gradients of this process's rows to the buffer. @returns the timesteps of the whole batch */
  #computeGradients(batch: Batch, tail: Float32Array): Tensor {
    const { rowsPerStep } = this.#options;
    if (batch.rows.length === 0) return drawForOthers(this.#training, batch, this.#emptyLatents(batch));
    const { loss, rowLosses, rowWeights, drawn } = computeGradients(this.#training, batch, batch.planned);
    tail[LOSS] = loss.item();
    for (const [i, rowLoss] of rowLosses.toNumbers().entries()) {
      const place = batch.places[i] as number;
      tail[TAIL + place] = rowLoss;
      tail[TAIL + rowsPerStep + place] = rowWeights[i] as number;
    }
    return drawn;
  }

  #emptyLatents({ size }: Batch): Tensor {
    const { channels, downsample } = this.#training.models.latents;
    const { height, width } = size;
    const shape = [0, channels, Math.floor(height / downsample), Math.floor(width / downsample)];
    return empty(shape, this.#options.placement);
  }

  /** @param sums the reduced tail @param came the places of the rows that came, of all processes */
  #update(
    batch: Batch,
    timesteps: Tensor,
    sums: readonly number[],
    came: readonly number[],
    step: number,
  ): StepMetrics | null {
    if (came.length === 0) return null;
    const { device } = this.#options.placement;
    // The sums are divided by all planned rows; the mean is over those that came, as much as their masks show of them.
    const { rowsPerStep } = this.#options;
    const weights = came.map((place) => sums[TAIL + rowsPerStep + place] as number);
    const share = batch.planned / weights.reduce((sum, weight) => sum + weight, 0);
    if (share !== 1) {
      using _ = noGrad();
      this.#gradients.mul_(share);
    }
    const places = tensor(came, [came.length], 'int64').to(device);
    const losses = came.map((place) => sums[TAIL + place] as number);
    const results = {
      loss: full([], (sums[LOSS] as number) * share, { device }),
      rowLosses: tensor(losses, [came.length]).to(device),
      timesteps: timesteps.indexSelect(0, places),
    };
    return updateWeights(this.#training, results, { step, ...this.#faultyRows(batch, came, losses) });
  }

  /** Returns the rows to name if the step is not finite, and who computed them: those at fault, or all. */
  #faultyRows(
    { planned, plannedRows }: Batch,
    came: readonly number[],
    losses: readonly number[],
  ): { rows: number[]; ranks: string } {
    const faulty = came.filter((_, i) => !Number.isFinite(losses[i]));
    const shown = faulty.length > 0 ? faulty : came;
    const { worldSize } = this.#options.group;
    const ranks = range(worldSize).filter((rank) => {
      const [first, end] = shareOf(planned, { rank, worldSize });
      return shown.some((place) => place >= first && place < end);
    });
    return { rows: shown.map((place) => plannedRows[place] as number), ranks: `rank ${ranks.join(', ')}` };
  }

  /** Tells the other processes which rows could not be read here, and learns of theirs. */
  async #shareBadRows(): Promise<void> {
    const { group, loader } = this.#options;
    const found = [...loader.badRows].filter(([row]) => !this.#knownBadRows.has(row));
    const all = (await group.gatherJson(found)).flat();
    for (const [row] of all) this.#knownBadRows.add(row);
    try {
      loader.addBadRows(all);
    } catch (error) {
      throw new AgreedError(error);
    }
  }

  #clear(): void {
    using _ = noGrad();
    this.#buffer.zero_();
  }

  [Symbol.dispose](): void {
    for (const parameter of this.#training.adapter.parameters()) parameter.grad = null;
    for (const tensor of [this.#gradients, this.#tail, this.#halved, this.#buffer]) tensor?.dispose();
  }
}

function range(length: number): number[] {
  return Array.from({ length }, (_, i) => i);
}
