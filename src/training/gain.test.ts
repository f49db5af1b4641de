import { afterAll, beforeAll, expect, it } from 'vitest';
import { openImageEncoder } from '../adapters/image-encoder.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { cat, Generator, memoryStats, noGrad, randn, type Tensor, tensorsOf } from '../torch/index.js';
import { GainMeter, type HeldOutRows } from './gain.js';
import type { LossModels } from './loss.js';
import { createAdapter } from './setup.js';

const generator = new Generator('cpu', 0);
const rowsOf = (count: number): HeldOutRows => ({
  latents: randn([count, 4, 8, 8], { generator }),
  conditioning: { text: randn([count, 32, 128], { generator }) },
  imageFeatures: randn([count, 65, 128], { generator }),
  nullFeatures: randn([1, 65, 128], { generator }),
});

let models: LossModels;
let adapter: IPAdapter;
beforeAll(() => {
  const model = openDiffusionModel('demo/models');
  const backbone = model.loadBackbone({ dtype: 'float32', device: 'cpu' });
  models = { backbone, objective: model.objective('cpu') };
  const imageEncoder = openImageEncoder('demo/models/image_encoder');
  adapter = createAdapter(
    { backbone, imageEncoder },
    { seed: 0, numTokens: undefined, kind: undefined },
    undefined,
    'cpu',
  ).adapter;
});
afterAll(() => adapter[Symbol.dispose]());

const meterOf = (rows: HeldOutRows) =>
  new GainMeter(models, rows, 2, { generator: new Generator('cpu', 3), device: 'cpu' });

it('gives the same figures again, and the mean of its bands', async () => {
  using meter = meterOf(rowsOf(5));
  const report = await meter.measure(adapter);
  expect(await meter.measure(adapter)).toEqual({ ...report, seconds: expect.any(Number) });
  expect(report.rows).toBe(5);
  expect(report.bands.map(({ first, end }) => [first, end])).toEqual([
    [0, 250],
    [250, 500],
    [500, 750],
    [750, 1000],
  ]);
  const mean = report.bands.reduce((sum, { loss }) => sum + loss.right, 0) / 4;
  expect(report.loss.right).toBeCloseTo(mean, 10);
});

it('measures another row’s image as if the rows had it, and none as the null image', async () => {
  const rows = rowsOf(4);
  using meter = meterOf(rows);
  const { loss } = await meter.measure(adapter);
  const withFeatures = async (imageFeatures: Tensor): Promise<number> => {
    using other = meterOf({ ...rows, imageFeatures });
    return (await other.measure(adapter)).loss.right;
  };
  const { imageFeatures: own, nullFeatures } = rows;
  expect(loss.shuffled).toBeCloseTo(await withFeatures(cat([own.slice(0, 1), own.slice(0, 0, 1)])), 6);
  expect(loss.none).toBeCloseTo(await withFeatures(nullFeatures.expand(4, -1, -1)), 6);
  expect(loss.shuffled).not.toBeCloseTo(loss.right, 4);
});

it('finds no gain where the adapter adds nothing', async () => {
  using meter = meterOf(rowsOf(3));
  const values = adapter.ip_adapter.flatMap((processor) => processor?.to_v_ip.weight ?? []);
  const saved = values.map((value) => value.detach().clone());
  {
    using _ = noGrad();
    for (const value of values) value.zero_();
  }
  const { loss, gain, gauge } = await meter.measure(adapter);
  expect(new Set(Object.values(gauge))).toEqual(new Set([0]));
  for (const other of [loss.shuffled, loss.none, loss.base]) expect(other).toBeCloseTo(loss.right, 6);
  expect(Math.abs(gain.mean)).toBeLessThan(1e-6);
  using _ = noGrad();
  for (const [i, value] of values.entries()) value.copy_(saved[i] as Tensor);
  const again = await meter.measure(adapter);
  expect(again.loss.base).not.toBeCloseTo(again.loss.right, 3);
});

it('gauges the addition at each site beside the text', async () => {
  using meter = meterOf(rowsOf(3));
  const { gauge } = await meter.measure(adapter);
  expect(Object.keys(gauge).sort()).toEqual(adapter.sites.map(({ name }) => name).sort());
  using _ = noGrad();
  const weights = adapter.ip_adapter.flatMap((processor) => processor?.to_v_ip.weight ?? []);
  for (const weight of weights) weight.mul_(2);
  const { gauge: doubled } = await meter.measure(adapter);
  for (const weight of weights) weight.mul_(0.5);
  // The first site in the backbone's order sees the same queries; later ones see what the first has changed.
  const [first, ...later] = Object.keys(gauge) as [string, ...string[]];
  expect((doubled[first] as number) / (gauge[first] as number)).toBeCloseTo(2, 4);
  expect(later.every((name) => (doubled[name] as number) > (gauge[name] as number))).toBe(true);
});

it('keeps its own copy of the rows, and releases it', async () => {
  const rows = rowsOf(2);
  const before = memoryStats().liveTensors;
  {
    using meter = meterOf(rows);
    for (const tensor of tensorsOf(rows)) tensor.dispose();
    await meter.measure(adapter);
  }
  expect(memoryStats().liveTensors).toBe(before - tensorsOf(rows).length);
});
