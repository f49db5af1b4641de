import { describe, expect, it } from 'vitest';
import { expectAllclose, expectSameBytes, golden } from '../../test/golden.js';
import { diffusionObjective } from '../diffusion/objective.js';
import { DDPMScheduler } from '../schedulers/ddpm.js';
import { Generator, randint, randn } from '../torch/index.js';
import { drawNoise } from './noise.js';

const off = { noiseOffset: 0, timestepSampling: 'uniform', logitMean: 0, logitStd: 1 } as const;
const shape = [3, 4, 8, 8];
const objective = diffusionObjective(
  DDPMScheduler.fromConfig(golden('schedulers/sd15_scheduler_config.json') as string),
);
const source = () => ({ generator: new Generator('cpu', 7), device: 'cpu' });

describe('drawNoise', () => {
  it('is standard normal noise, then uniform timesteps, where no option is on', () => {
    const { noise, timesteps } = drawNoise(shape, objective, off, source());
    const { generator } = source();
    expectSameBytes(noise, randn(shape, { generator }));
    expectSameBytes(timesteps, randint(0, 1000, [3], { generator }));
  });

  it('an offset is one number for each channel of each row, and does not change the noise beside it', () => {
    const { noise, timesteps } = drawNoise(shape, objective, { ...off, noiseOffset: 0.1 }, source());
    const { generator } = source();
    const plain = randn(shape, { generator });
    const offsets = randn([3, 4, 1, 1], { generator });
    expectAllclose(noise, plain.add(offsets.mul(0.1)), 1e-7);
    expectSameBytes(timesteps, randint(0, 1000, [3], { generator }));
  });
});

describe('logit-normal timesteps', () => {
  const draw = (logitMean: number, logitStd: number): number[] => {
    const options = { ...off, timestepSampling: 'logit_normal', logitMean, logitStd } as const;
    return drawNoise([20_000, 1, 1, 1], objective, options, source()).timesteps.toNumbers();
  };
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

  it.each([
    [0, 1],
    [1, 0.5],
    [-0.7, 1.5],
  ])('mean %d, deviation %d: the shares below its quantiles are those of a normal', (mean, std) => {
    const timesteps = draw(mean, std);
    for (const [deviations, share] of [
      [-1, 0.158655],
      [0, 0.5],
      [1, 0.841345],
    ] as const) {
      const below = timesteps.filter((t) => t + 0.5 < 1000 * sigmoid(mean + deviations * std)).length;
      expect(Math.abs(below / timesteps.length - share)).toBeLessThan(0.012);
    }
  });

  it('stays in 0 … 999, both of them included', () => {
    const timesteps = draw(0, 100);
    expect([Math.min(...timesteps), Math.max(...timesteps)]).toEqual([0, 999]);
  });
});
