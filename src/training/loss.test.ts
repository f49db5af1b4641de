import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, goldenResampler, readGolden, target } from '../../test/golden.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import type { Backbone } from '../diffusion/model.js';
import { diffusionObjective, type Objective } from '../diffusion/objective.js';
import { unetBackbone } from '../diffusion/unet-model.js';
import { type NoiseConfig, readNoiseConfig } from '../schedulers/config.js';
import { DDPMScheduler } from '../schedulers/ddpm.js';
import { backward, mapTensors, type Tensor, tensor } from '../torch/index.js';
import { loadUNet } from '../weights/load.js';
import { type StepInputs, trainingLoss } from './loss.js';

const epsilon = readNoiseConfig(golden('schedulers/sd15_scheduler_config.json') as string);
const objectiveOf = (config: NoiseConfig) => diffusionObjective(new DDPMScheduler(config, target.device));
const velocity = { ...epsilon, prediction_type: 'v_prediction' } as const;

describe('Min-SNR weights', () => {
  const steps = [0, 1, 250, 500, 999];
  const timesteps = tensor(steps, [steps.length], 'int64');
  /** SD 1.5's ᾱ in float64: betas evenly spaced in their roots. */
  const snr = steps.map((t) => {
    const root = (i: number): number =>
      Math.sqrt(0.00085) + (i / 999) * (Math.sqrt(0.012) - Math.sqrt(0.00085));
    const bar = Array.from({ length: t + 1 }, (_, i) => 1 - root(i) ** 2).reduce((a, b) => a * b);
    return bar / (1 - bar);
  });
  const expected = (weight: (snr: number) => number) => tensor(snr.map(weight), [steps.length]);

  it.each([1, 5])('γ = %d, where the noise is predicted', (gamma) => {
    const weights = objectiveOf(epsilon).minSnrWeights(timesteps, gamma);
    expectAllclose(
      weights,
      expected((snr) => Math.min(snr, gamma) / snr),
      1e-5,
    );
    expect(weights.toNumbers().at(-1)).toBe(1);
  });

  it.each([1, 5])('γ = %d, where the velocity is predicted', (gamma) => {
    const weights = objectiveOf(velocity).minSnrWeights(timesteps, gamma);
    expectAllclose(
      weights,
      expected((snr) => Math.min(snr, gamma) / (snr + 1)),
      1e-5,
    );
  });

  it('are finite where no signal is left', () => {
    const last = tensor([999], [1], 'int64');
    const weight = (config: typeof epsilon) =>
      objectiveOf({ ...config, rescale_betas_zero_snr: true })
        .minSnrWeights(last, 5)
        .item();
    expect([weight(epsilon), weight(velocity)]).toEqual([1, 0]);
  });
});

it('takes Min-SNR weights of the squared error in the masks, and reports rows without them', () => {
  const row = (values: number[]): Tensor => tensor(values, [2, 1, 1, 2]).to(target);
  const backbone = { predict: () => row([2, 3, 2, 4]) } as unknown as Backbone;
  const objective = {
    noisy: (latents: Tensor) => latents,
    target: () => row([0, 0, 0, 0]),
    minSnrWeights: () => tensor([0.5, 0.1], [2]).to(target),
  } as unknown as Objective;
  const unused = row([0, 0, 0, 0]);
  const inputs: StepInputs = {
    ...{ latents: unused, noise: unused, timesteps: unused, conditioning: { text: unused } },
    ...{ imageFeatures: unused, lossMask: row([1, 0, 0.5, 0.25]) },
  };
  const { loss, rowLosses } = trainingLoss({ backbone, objective }, null, inputs, { snrGamma: 5 });
  // (0.5 · (4 · 1 + 9 · 0) / 2 + 0.1 · (4 · 0.5 + 16 · 0.25) / 2) / 2
  expect(loss.item()).toBeCloseTo(0.65, 6);
  // (4 · 1 + 9 · 0) / (1 + 0), and (4 · 0.5 + 16 · 0.25) / (0.5 + 0.25)
  expectAllclose(rowLosses, tensor([4, 8], [2]), 1e-6);
});

describe('trainingLoss', () => {
  const folder = golden('train') as string;
  const config = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8'));
  const unet = loadUNet(golden('unet/unet') as string, target);
  const adapter = new IPAdapter(unet.sites(), goldenResampler(config.resampler));
  adapter.loadStateDict(readGolden(`${folder}/init.safetensors`), 'golden');
  const backbone = unetBackbone(unet);
  const inputs = readGolden(`${folder}/inputs.safetensors`);
  const at = (name: string): Tensor => inputs.get(`step0.${name}`) as Tensor;
  const whole: StepInputs = {
    latents: at('latents'),
    noise: at('noise'),
    timesteps: at('timesteps'),
    conditioning: { text: at('encoder_hidden_states') },
    imageFeatures: at('image_embeds'),
  };
  const row = (i: number): StepInputs => mapTensors(whole, (tensor) => tensor.slice(0, i, i + 1));
  const rows = whole.latents.shape[0] as number;

  it.each([
    ['epsilon', epsilon],
    ['v_prediction', velocity],
  ] as const)('%s: with γ it is the mean of the rows’ own losses, each with its weight', (_, noiseConfig) => {
    const objective = objectiveOf(noiseConfig);
    const loss = (inputs: StepInputs, snrGamma?: number): number =>
      trainingLoss({ backbone, objective }, adapter, inputs, { snrGamma }).loss.item();
    const gamma = 0.1;
    const weights = objective.minSnrWeights(whole.timesteps, gamma).toNumbers();
    const each = Array.from({ length: rows }, (_, i) => loss(row(i)));
    const mean = (values: number[]): number => values.reduce((a, b) => a + b) / rows;
    expect(rows).toBeGreaterThan(1);
    expect(Math.abs(loss(whole) / mean(each) - 1)).toBeLessThan(1e-5);
    const weighted = mean(each.map((value, i) => value * (weights[i] as number)));
    expect(Math.abs(loss(whole, gamma) / weighted - 1)).toBeLessThan(1e-5);
    expect(Math.abs(weighted / mean(each) - 1)).toBeGreaterThan(0.01);
  });

  it('predicts the velocity where the model does: another loss of the same prediction', () => {
    const [a, b] = [epsilon, velocity].map((config) =>
      trainingLoss({ backbone, objective: objectiveOf(config) }, adapter, whole).loss.item(),
    );
    expect(Math.abs((a as number) - (b as number))).toBeGreaterThan(1e-3);
  });

  it('with masks is the squared error where they are, and so are its gradients', () => {
    const { shape } = whole.latents;
    const [b = 0, channels = 0, h = 0, w = 0] = shape;
    const greys = Array.from({ length: b * h * w }, (_, i) => ((i * 37) % 11) / 10);
    const lossMask = tensor(greys, [b, 1, h, w]);
    const objective = objectiveOf(epsilon);
    const predict = ({ latents, noise, timesteps, conditioning, imageFeatures }: StepInputs): Tensor =>
      backbone.predict(objective.noisy(latents, noise, timesteps), timesteps, conditioning, {
        additions: [adapter.addition(adapter.call(imageFeatures))],
      });
    const errors = predict(whole).sub(whole.noise).toNumbers();
    const size = channels * h * w;
    const of = (row: number): number =>
      Array.from({ length: size }, (_, i) => {
        const error = errors[row * size + i] as number;
        return error ** 2 * (greys[row * h * w + (i % (h * w))] as number);
      }).reduce((sum, value) => sum + value) / size;
    const mean = (row: number): number =>
      greys.slice(row * h * w, (row + 1) * h * w).reduce((sum, grey) => sum + grey) / (h * w);
    const { loss, rowLosses } = trainingLoss({ backbone, objective }, adapter, { ...whole, lossMask });
    const places = Array.from({ length: b }, (_, row) => row);
    expect(loss.item()).toBeCloseTo(places.map(of).reduce((sum, value) => sum + value) / b, 5);
    rowLosses.toNumbers().forEach((value, row) => {
      expect(value).toBeCloseTo(of(row) / mean(row), 5);
    });
    expect(
      Math.abs(loss.item() - trainingLoss({ backbone, objective }, adapter, whole).loss.item()),
    ).toBeGreaterThan(0.01);

    adapter.requiresGrad_(true);
    const gradients = (loss: Tensor): Tensor[] => {
      for (const parameter of adapter.parameters()) parameter.grad = null;
      backward(loss);
      return adapter.parameters().map(({ grad }) => (grad as Tensor).clone());
    };
    const own = gradients(trainingLoss({ backbone, objective }, adapter, { ...whole, lossMask }).loss);
    const difference = predict(whole).sub(whole.noise);
    const expected = gradients(difference.mul(difference).mul(lossMask).mean());
    own.forEach((gradient, i) => {
      expectAllclose(gradient, expected[i] as Tensor, 1e-5);
    });
  });
});
