/**
 * @file AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2), with the update rule of torch/optim/adamw.py.
 */
import { noGrad, op, type Tensor, tidy, torchVersion, zeros } from '../torch/index.js';
import { copyState } from './state.js';

/** Parameters that share a learning rate. */
export interface ParameterGroup {
  /** By name, in the order of the update; the names are the keys of the optimizer state. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly learningRate: number;
}

export interface AdamWOptions {
  /** Decay rates of the two moments. Default: [0.9, 0.999] */
  betas?: readonly [number, number];
  /** Default: 1e-8 */
  eps?: number;
  /** Decoupled: each update multiplies a parameter by 1 − learningRate × weightDecay. Default: 0.01 */
  weightDecay?: number;
}

interface Moments {
  expAvg: Tensor;
  expAvgSq: Tensor;
}

interface Update extends Moments {
  parameter: Tensor;
  grad: Tensor;
}

/** Updates parameters in place from their `.grad`. A parameter without gradient is not changed. */
export class AdamW {
  readonly #groups: Readonly<Record<string, ParameterGroup>>;
  readonly #moments: ReadonlyMap<string, Moments>;
  readonly #options: Required<AdamWOptions>;
  /** The factor of all groups' learning rates; may change between steps. */
  learningRateFactor = 1;
  #steps = 0;

  /** @param groups by name, in the order of the update; parameter names are unique across groups */
  constructor(groups: Readonly<Record<string, ParameterGroup>>, options: AdamWOptions = {}) {
    this.#groups = groups;
    this.#options = { betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01, ...options };
    this.#moments = new Map(
      Array.from(this.#parameters(), ([name, { shape, device }]) => [
        name,
        { expAvg: zeros(shape, { device }), expAvgSq: zeros(shape, { device }) },
      ]),
    );
  }

  #parameters(): [string, Tensor][] {
    return Object.values(this.#groups).flatMap(({ parameters }) => [...parameters]);
  }

  /** The number of updates so far. */
  get steps(): number {
    return this.#steps;
  }

  /** Each group's learning rate in the next update. */
  get learningRates(): Record<string, number> {
    const rates = Object.entries(this.#groups).map(([name, { learningRate }]) => [
      name,
      learningRate * this.learningRateFactor,
    ]);
    return Object.fromEntries(rates);
  }

  step(): void {
    using _ = noGrad();
    this.#steps++;
    for (const { parameters, learningRate } of Object.values(this.#groups))
      tidy(() => this.#updateGroup(parameters, learningRate * this.learningRateFactor));
  }

  #updateGroup(parameters: ReadonlyMap<string, Tensor>, learningRate: number): void {
    const updates: Update[] = [];
    for (const [name, parameter] of parameters) {
      const { grad } = parameter;
      if (grad !== null) updates.push({ parameter, grad, ...(this.#moments.get(name) as Moments) });
    }
    if (updates[0] !== undefined && fusedOn(updates[0].parameter.device))
      this.#updateFused(updates, learningRate);
    // One parameter at a time, since the temporary tensors of all together would be as large as the model.
    else for (const update of updates) tidy(() => this.#update(update, learningRate));
  }

  #update({ parameter, grad, expAvg, expAvgSq }: Update, learningRate: number): void {
    const { betas, eps, weightDecay } = this.#options;
    const [beta1, beta2] = betas;
    const correction1 = 1 - beta1 ** this.#steps;
    const correction2 = 1 - beta2 ** this.#steps;
    parameter.mul_(1 - learningRate * weightDecay);
    expAvg.mul_(beta1).add_(grad, 1 - beta1);
    aten.addcmul_(expAvgSq.mul_(beta2), grad, grad, 1 - beta2);
    const denominator = expAvgSq
      .sqrt()
      .mul_(1 / Math.sqrt(correction2))
      .add_(eps);
    aten.addcdiv_(parameter, expAvg, denominator, -learningRate / correction1);
  }

  #updateFused(updates: readonly Update[], learningRate: number): void {
    const { betas, eps, weightDecay } = this.#options;
    const [first] = updates as [Update];
    const step = zeros([], { device: first.parameter.device }).add_(this.#steps);
    aten.fusedAdamW(
      updates.map(({ parameter }) => parameter),
      updates.map(({ grad }) => grad),
      updates.map(({ expAvg }) => expAvg),
      updates.map(({ expAvgSq }) => expAvgSq),
      [],
      updates.map(() => step),
      learningRate,
      ...betas,
      weightDecay,
      eps,
      false,
      false,
    );
  }

  /** Clears the gradients. @param setToNone releases their memory; otherwise they are set to 0 in place */
  zeroGrad({ setToNone = true }: { setToNone?: boolean } = {}): void {
    tidy(() => {
      for (const [, parameter] of this.#parameters())
        if (setToNone) parameter.grad = null;
        else parameter.grad?.zero_();
    });
  }

  /** Returns the moments, `exp_avg.NAME` and `exp_avg_sq.NAME`. With `steps` they are the complete optimizer state. */
  stateDict(): Map<string, Tensor> {
    const state = new Map<string, Tensor>();
    for (const [name, { expAvg, expAvgSq }] of this.#moments) {
      state.set(`exp_avg.${name}`, expAvg);
      state.set(`exp_avg_sq.${name}`, expAvgSq);
    }
    return state;
  }

  /**
   * Restores a state from `stateDict` and `steps`.
   * @param where the file, for the error
   * @throws CheckpointError where the state belongs to other parameters
   */
  loadStateDict(state: ReadonlyMap<string, Tensor>, steps: number, where: string): void {
    copyState(this.stateDict(), state, 'optimizer state', where);
    this.#steps = steps;
  }
}

// LibTorch declares the operator from 2.0 on, and implements it for the CPU from 2.4 on.
function fusedOn(device: string): boolean {
  const [major = 0, minor = 0] = torchVersion.split('.').map(Number);
  return aten.fusedAdamW.available && (device.startsWith('cuda') || major > 2 || (major === 2 && minor >= 4));
}

const aten = {
  addcmul_: op(
    'aten::addcmul_(Tensor(a!) self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor(a!)',
  ),
  addcdiv_: op(
    'aten::addcdiv_(Tensor(a!) self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor(a!)',
  ),
  fusedAdamW: op(
    'aten::_fused_adamw_(Tensor(a!)[] self, Tensor(b!)[] grads, Tensor(c!)[] exp_avgs, Tensor(d!)[] exp_avg_sqs, Tensor(e!)[] max_exp_avg_sqs, Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> ()',
  ),
};
