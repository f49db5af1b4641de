import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../test/golden.js';
import { CheckpointError } from '../base/errors.js';
import { backward, Generator, randn, type Tensor, tensor, tidy } from '../torch/index.js';
import { AdamW } from './adamw.js';

const learningRate = 0.1;
const options = { betas: [0.8, 0.9], eps: 1e-3, weightDecay: 0.05 } as const;

function adamW(parameters: Map<string, Tensor>): AdamW {
  return new AdamW({ all: { parameters, learningRate } }, options);
}

/** Computes the paper's algorithm in float64, for a parameter of one element. */
function byHand(start: number, grads: readonly number[]): number {
  const { betas, eps, weightDecay } = options;
  let [x, m, v] = [start, 0, 0];
  grads.forEach((g, i) => {
    m = betas[0] * m + (1 - betas[0]) * g;
    v = betas[1] * v + (1 - betas[1]) * g * g;
    const [mHat, vHat] = [m / (1 - betas[0] ** (i + 1)), v / (1 - betas[1] ** (i + 1))];
    x -= learningRate * (mHat / (Math.sqrt(vHat) + eps) + weightDecay * x);
  });
  return x;
}

function parameters(): Map<string, Tensor> {
  const generator = new Generator('cpu', 5);
  const parameters = new Map([[2, 3], [4]].map((shape, i) => [`p${i}`, randn(shape, { generator })]));
  for (const value of parameters.values()) value.requiresGrad = true;
  return parameters;
}

function stepOn(values: Map<string, Tensor>, optimizer: AdamW): void {
  tidy(() => {
    for (const value of values.values()) backward(value.pow(3).sum());
    optimizer.step();
    optimizer.zeroGrad();
  });
}

describe('AdamW', () => {
  it('computes the algorithm of the paper', () => {
    const x = tensor([0.7], [1]);
    x.requiresGrad = true;
    const optimizer = adamW(new Map([['x', x]]));
    const grads = [0.5, -2, 0.01, 3];
    for (const grad of grads) {
      x.grad = tensor([grad], [1]);
      optimizer.step();
    }
    expect(x.item()).toBeCloseTo(byHand(0.7, grads), 6);
    expect(optimizer.steps).toBe(4);
  });

  it('does not change a parameter without gradient', () => {
    const values = parameters();
    const optimizer = adamW(values);
    const initial = (values.get('p1') as Tensor).detach().clone();
    backward((values.get('p0') as Tensor).sum());
    optimizer.step();
    expectSameBytes((values.get('p1') as Tensor).detach(), initial);
    optimizer.zeroGrad();
    expect([...values.values()].map(({ grad }) => grad)).toEqual([null, null]);
  });

  it('resumes from a saved state bit-exactly', () => {
    const [whole, parts] = [parameters(), parameters()];
    const first = adamW(whole);
    for (let i = 0; i < 6; i++) stepOn(whole, first);

    const second = adamW(parts);
    for (let i = 0; i < 3; i++) stepOn(parts, second);
    const saved = new Map(Array.from(second.stateDict(), ([key, value]) => [key, value.clone()]));
    const third = adamW(parts);
    third.loadStateDict(saved, second.steps, 'here');
    for (let i = 0; i < 3; i++) stepOn(parts, third);
    for (const [key, value] of whole) expectSameBytes((parts.get(key) as Tensor).detach(), value.detach());
  });

  it('refuses the state of other parameters, by name and shape', () => {
    const optimizer = adamW(parameters());
    const state = optimizer.stateDict();
    state.delete('exp_avg.p0');
    state.set('exp_avg_sq.p1', tensor([1], [1]));
    expect(() => optimizer.loadStateDict(state, 1, 'there')).toThrow(CheckpointError);
    expect(() => optimizer.loadStateDict(state, 1, 'there')).toThrow(
      /there .*exp_avg\.p0: .*nothing.*exp_avg_sq\.p1: expected \[4\] but received \[1\]/,
    );
  });

  it('groups have separate learning rates, and are updated independently', () => {
    const [together, alone] = [parameters(), parameters()];
    const group = (values: Map<string, Tensor>, name: string, rate: number) => ({
      parameters: new Map([[name, values.get(name) as Tensor]]),
      learningRate: rate,
    });
    const both = new AdamW({ a: group(together, 'p0', 0.1), b: group(together, 'p1', 0.02) }, options);
    const each = [group(alone, 'p0', 0.1), group(alone, 'p1', 0.02)].map(
      (all) => new AdamW({ all }, options),
    );
    both.learningRateFactor = 0.5;
    expect(both.learningRates).toEqual({ a: 0.05, b: 0.01 });
    stepOn(together, both);
    tidy(() => {
      for (const value of alone.values()) backward(value.pow(3).sum());
      for (const optimizer of each) {
        optimizer.learningRateFactor = 0.5;
        optimizer.step();
      }
    });
    for (const [key, value] of together) expectSameBytes((alone.get(key) as Tensor).detach(), value.detach());
    expect([...both.stateDict().keys()]).toEqual([
      ...['exp_avg.p0', 'exp_avg_sq.p0', 'exp_avg.p1', 'exp_avg_sq.p1'],
    ]);
  });

  it('the learning rate may change between steps', () => {
    const values = parameters();
    const initial = (values.get('p0') as Tensor).detach().clone();
    const optimizer = adamW(values);
    optimizer.learningRateFactor = 0;
    stepOn(values, optimizer);
    expectSameBytes((values.get('p0') as Tensor).detach(), initial);
  });
});
