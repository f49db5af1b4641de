/** @file Notices a loss or a norm of gradients that drifts upwards over many steps. */
import { mean } from '../base/statistics.js';
import type { Statement } from './verdict.js';

/** Steps and rows that a window has at least: of so many rows, the mean loss hardly depends on their timesteps. */
const [STEPS, ROWS] = [100, 1600];
/** So many times the lowest mean loss of an earlier window is a drift. */
const LOSS_FACTOR = 1.5;
/** So many times the lowest median norm of an earlier window is a drift. */
const NORM_FACTOR = 10;

export class DriftWatch {
  readonly #size: number;
  #losses: number[] = [];
  #norms: number[] = [];
  #lowest = { loss: Number.POSITIVE_INFINITY, norm: Number.POSITIVE_INFINITY };

  /** @param rowsPerStep rows that a step trains on */
  constructor(rowsPerStep: number) {
    this.#size = Math.max(STEPS, Math.ceil(ROWS / rowsPerStep));
  }

  /** Takes a step, and returns what its window shows where it ends one. */
  add({ step, loss, grad_norm: norm }: { step: number; loss: number; grad_norm: number }): Statement[] {
    this.#losses.push(loss);
    this.#norms.push(norm);
    if (this.#losses.length < this.#size) return [];
    const now = { loss: mean(this.#losses), norm: median(this.#norms) };
    const lowest = this.#lowest;
    [this.#losses, this.#norms] = [[], []];
    this.#lowest = { loss: Math.min(lowest.loss, now.loss), norm: Math.min(lowest.norm, now.norm) };
    const over = `over the last ${this.#size} steps`;
    return [
      ...(now.loss > LOSS_FACTOR * lowest.loss
        ? [
            {
              kind: 'loss drifts' as const,
              text: `Step ${step}: the loss drifts. Its mean ${over} is ${now.loss.toFixed(4)} and has been ${lowest.loss.toFixed(4)}. Likely causes, in this order: a learning rate that is too high; rows of another kind late in the dataset. Resume from an earlier checkpoint with a lower --learning-rate, or with --max-grad-norm 1`,
            },
          ]
        : []),
      ...(now.norm > NORM_FACTOR * lowest.norm
        ? [
            {
              kind: 'norm drifts' as const,
              text: `Step ${step}: the norm of the gradients drifts. Its median ${over} is ${now.norm.toPrecision(3)} and has been ${lowest.norm.toPrecision(3)}. A lower --learning-rate or --max-grad-norm 1 helps before the loss follows`,
            },
          ]
        : []),
    ];
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}
