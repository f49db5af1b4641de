/**
 * @file Benchmarks one UNet call, the main cost of generation: of the demo's UNet at the batch size of `npm start`, and of SD
 * 1.5's at 512 px with random weights (3.4 GB on each side).
 *
 *     npx tsx bench/generate.ts [rounds]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UNet2DConditionModel } from '../src/models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../src/models/unet/unet-config.js';
import { initParameters } from '../src/nn/init.js';
import { Generator, noGrad, randn, tensor } from '../src/torch/index.js';
import { loadUNet } from '../src/weights/load.js';
import { sd15 } from '../src/weights/sd15.js';
import { sideBySide } from './side-by-side.js';

const timestep = tensor([500], [1], 'int64');
const demo = loadUNet('demo/models/unet', { dtype: 'float32' });
const demoInputs = { sample: randn([64, 4, 8, 8]), context: randn([64, 32, 128]) };

const full = new UNet2DConditionModel(parseUNetConfig(sd15.unet, 'bench'));
const shapes = Object.fromEntries(Array.from(full.namedParameters(), ([key, { shape }]) => [key, shape]));
initParameters(full, new Generator('cpu', 0));
const fullInputs = { sample: randn([1, 4, 64, 64]), context: randn([1, 77, 768]) };

// Python creates its own random weights of the same shapes.
const folder = mkdtempSync(join(tmpdir(), 'bench-'));
const description = join(folder, 'sd15.json');
writeFileSync(description, JSON.stringify({ config: sd15.unet, shapes }));

using _ = noGrad();
try {
  await sideBySide(
    [
      {
        name: 'demo UNet',
        count: 3,
        run: () => demo.call(demoInputs.sample, timestep, demoInputs.context),
      },
      {
        name: 'SD 1.5 UNet',
        count: 1,
        run: () => full.call(fullInputs.sample, timestep, fullInputs.context),
      },
    ],
    { script: 'generate.py', args: ['demo/models/unet', description], rounds: Number(process.argv[2] ?? 5) },
  );
} finally {
  rmSync(folder, { recursive: true });
}
