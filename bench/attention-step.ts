/**
 * @file Measures a training step of Stable Diffusion 1.5 Plus at full size, with encoders cached, in turn with LibTorch's
 * attention and with what src/nn/attention-kernel.ts chooses: CPU seconds of all threads, which other work changes least.
 * MODELS is a folder that bench/train.ts has written.
 *
 *     npx tsx bench/attention-step.ts MODELS [rounds]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapter } from '../src/adapters/open-adapter.js';
import { diffusionObjective } from '../src/diffusion/objective.js';
import { unetBackbone } from '../src/diffusion/unet-model.js';
import { readSafetensors } from '../src/formats/index.js';
import { setAttentionTable } from '../src/nn/attention-kernel.js';
import { DDPMScheduler } from '../src/schedulers/ddpm.js';
import { ones, setNumThreads, type Tensor, tidy, torchVersion } from '../src/torch/index.js';
import { resolveTarget } from '../src/torch/target.js';
import { createForwardBackward } from '../src/training/step.js';
import { loadUNet } from '../src/weights/load.js';
import { writeInputs } from './full-size/inputs.js';
import { median } from './side-by-side.js';

const [models = 'build/full-size', rounds = '3'] = process.argv.slice(2);
setNumThreads(availableParallelism());
const backbone = unetBackbone(
  loadUNet(join(models, 'model/unet'), resolveTarget({ device: 'cpu', dtype: 'float32' })),
);
const objective = diffusionObjective(DDPMScheduler.fromConfig(join(models, 'model/scheduler'), 'cpu'));
const { module: adapter } = openAdapter(join(models, 'ip_adapter.safetensors'), backbone.sites);
adapter.requiresGrad_(true);
const forwardBackward = createForwardBackward({
  ...{ models: { backbone, objective }, adapter },
  config: { gradientCheckpointing: false },
  measure: (_, work) => work(),
});

console.log(
  `LibTorch ${torchVersion()}, ${availableParallelism()} × ${cpus()[0]?.model.trim()}, ${rounds} rounds`,
);
for (const resolution of [512, 256]) {
  const folder = mkdtempSync(join(tmpdir(), 'attention-'));
  writeInputs(join(folder, 'inputs.safetensors'), resolution);
  const { tensors } = readSafetensors(join(folder, 'inputs.safetensors'));
  const input = (name: string): Tensor => tensors.get(name) as Tensor;
  const seconds: Record<1 | 2, number[]> = { 1: [], 2: [] };
  const losses: Record<1 | 2, number> = { 1: 0, 2: 0 };
  for (let round = 0; round <= Number(rounds); round++)
    for (const table of round % 2 ? ([2, 1] as const) : ([1, 2] as const)) {
      setAttentionTable(table);
      const start = process.cpuUsage();
      losses[table] = tidy(() => {
        const rows = {
          ...{
            latents: input('latents'),
            imageFeatures: input('image'),
            conditioning: { text: input('text') },
          },
          ...{ noise: input('noise'), timesteps: input('timesteps') },
        };
        const { loss } = forwardBackward({ rows, weight: ones([]) });
        for (const [, parameter] of adapter.namedParameters()) parameter.grad = null;
        return loss.item();
      });
      const { user, system } = process.cpuUsage(start);
      if (round > 0) seconds[table].push((user + system) / 1e6);
    }
  rmSync(folder, { recursive: true });
  const [theirs, chosen] = [median(seconds[1]), median(seconds[2])];
  console.log(
    `${resolution} px: LibTorch's ${theirs.toFixed(2)} CPU s, chosen ${chosen.toFixed(2)}: ${(theirs / chosen).toFixed(3)}; losses ${losses[1]} and ${losses[2]}`,
  );
}
