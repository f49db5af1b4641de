/** SDXL with v-prediction and zero terminal SNR is trained, and draws. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { expectAllclose, expectSameBytes, golden, readGolden } from '../../test/golden.js';
import { readJson, writeJson } from '../../test/model-files.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { generate } from '../generation/generate.js';
import { Generator, randn, tensor } from '../torch/index.js';
import { train } from './train.js';

const xl = golden('sdxl_base_models');

describe.skipIf(xl === null)('SDXL with v-prediction and zero terminal SNR (../shared/golden)', () => {
  let root: string;
  let world: World;
  let model: string;
  beforeAll(async () => {
    world = await makeWorld(4);
    root = mkdtempSync(join(tmpdir(), 'ip-adapter-zero-snr-'));
    model = join(root, 'model');
    cpSync(xl as string, model, { recursive: true });
    const file = join(model, 'scheduler', 'scheduler_config.json');
    writeJson(file, {
      ...readJson(file),
      prediction_type: 'v_prediction',
      rescale_betas_zero_snr: true,
      timestep_spacing: 'trailing',
    });
  });
  afterAll(() => {
    rmSync(root, { recursive: true });
    world.remove();
  });

  it('adds nothing but noise at the last timestep, and predicts the image from it', () => {
    using objective = openDiffusionModel(model).objective('cpu');
    const generator = new Generator('cpu', 1);
    const [latents, noise] = [randn([2, 4, 8, 8], { generator }), randn([2, 4, 8, 8], { generator })];
    const last = tensor([999, 999], [2], 'int64');
    expectSameBytes(objective.noisy(latents, noise, last), noise);
    expectAllclose(objective.target(latents, noise, last), latents.neg(), 0);
    expect(objective.minSnrWeights(last, 5).toNumbers()).toEqual([0, 0]);
    const first = objective.noisy(latents, noise, tensor([0, 0], [2], 'int64'));
    expectAllclose(first, latents, 0.1);
  });

  it('trains two steps, and draws from the first timestep on without NaN', { timeout: 120_000 }, async () => {
    const losses: number[] = [];
    const { checkpoint } = await train(
      {
        ...world.optionsFor('out'),
        model,
        imageEncoder: join(model, 'image_encoder'),
        kind: 'plus',
        batchSize: 2,
        maxSteps: 2,
      },
      {
        onEvent: (event) => {
          if (event.type === 'step') losses.push(event.loss);
        },
      },
    );
    expect(losses).toHaveLength(2);
    expect(losses.every(Number.isFinite)).toBe(true);
    for (const [key, tensor] of readGolden(join(checkpoint, 'ip_adapter.safetensors')))
      expect(tensor.toNumbers().every(Number.isFinite), key).toBe(true);

    const prompt = {
      prompt: 'a',
      steps: 4,
      width: 64,
      height: 64,
      images: [join(world.root, 'images/0.png')],
    };
    const models = { model, adapter: checkpoint, imageEncoder: join(model, 'image_encoder') };
    for (const scheduler of [undefined, 'ddim', 'dpmpp-2m'] as const) {
      const [image] = await generate({ ...models, ...prompt, ...(scheduler && { scheduler }) });
      const pixels = new Set(image?.data);
      // NaN becomes one value everywhere.
      expect(pixels.size, scheduler).toBeGreaterThan(20);
    }
  });
});
