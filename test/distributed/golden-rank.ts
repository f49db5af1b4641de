/** @file One of two processes that repeat the recorded training of the original: each takes its rows of every step. Prints the losses. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IPAdapter } from '../../src/adapters/ip-adapter.js';
import { Resampler } from '../../src/adapters/resampler.js';
import { shareOf } from '../../src/data/batch-plan.js';
import { diffusionObjective } from '../../src/diffusion/objective.js';
import { unetBackbone } from '../../src/diffusion/unet-model.js';
import { joinProcessGroup } from '../../src/distributed/join.js';
import type { ProcessGroup } from '../../src/distributed/process-group.js';
import { readSafetensors } from '../../src/formats/index.js';
import { AdamW } from '../../src/optim/adamw.js';
import { DDPMScheduler } from '../../src/schedulers/ddpm.js';
import { backward, setNumThreads, type Tensor, tidy, zeros } from '../../src/torch/index.js';
import { type StepInputs, trainingLoss } from '../../src/training/loss.js';
import { loadUNet } from '../../src/weights/load.js';

const [folder, unetFolder, schedulerFile] = process.argv.slice(2) as [string, string, string];
const read = (name: string): Map<string, Tensor> =>
  readSafetensors(join(folder, `${name}.safetensors`)).tensors;
setNumThreads(1);
const group = (await joinProcessGroup({ timeoutSeconds: 60 })) as ProcessGroup;
const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
const unet = loadUNet(unetFolder, { device: 'cpu' });
const models = {
  backbone: unetBackbone(unet),
  objective: diffusionObjective(DDPMScheduler.fromConfig(schedulerFile, 'cpu')),
};
const { resampler } = config;
const adapter = new IPAdapter(
  unet.sites(),
  new Resampler({
    ...{ dim: resampler.dim, depth: resampler.depth, dimHead: resampler.dim_head, heads: resampler.heads },
    ...{ numQueries: resampler.num_queries, embeddingDim: resampler.embedding_dim },
    ...{ outputDim: resampler.output_dim, ffMult: resampler.ff_mult },
  }),
);
adapter.loadStateDict(read('init'), 'golden');
adapter.requiresGrad_(true);
const parameters = adapter.namedParameters();
const optimizer = new AdamW(
  { adapter: { parameters, learningRate: config.learning_rate } },
  { weightDecay: config.weight_decay },
);
const numel = adapter.parameters().reduce((sum, parameter) => sum + parameter.numel, 0);
const buffer = zeros([numel + 1]);
let end = 0;
for (const parameter of adapter.parameters()) {
  parameter.grad = buffer.slice(0, end, end + parameter.numel).view(...parameter.shape);
  end += parameter.numel;
}

const inputs = read('inputs');
const losses: number[] = [];
const { length } = (read('losses').get('loss') as Tensor).toNumbers();
for (let step = 0; step < length; step++) {
  buffer.slice(0, numel).zero_();
  tidy(() => {
    const whole = (name: string): Tensor => inputs.get(`step${step}.${name}`) as Tensor;
    const rows = whole('timesteps').shape[0] as number;
    const [first, last] = shareOf(rows, group);
    // One of the steps has a single row.
    if (first === last) return;
    const at = (name: string): Tensor => whole(name).slice(0, first, last);
    const own: StepInputs = {
      ...{ latents: at('latents'), noise: at('noise'), timesteps: at('timesteps') },
      ...{ conditioning: { text: at('encoder_hidden_states') }, imageFeatures: at('image_embeds') },
    };
    const loss = trainingLoss(models, adapter, own).loss.mul((last - first) / rows);
    backward(loss);
    buffer.slice(0, numel).copy_(loss.detach().reshape(1));
  });
  await group.allReduce(buffer);
  losses.push(tidy(() => buffer.slice(0, numel).item()));
  optimizer.step();
  optimizer.zeroGrad({ setToNone: false });
}
const moved = [...read('final')].map(([key, value]) =>
  tidy(() => {
    const distance = (a: Tensor): number => a.detach().sub(value).square().sum().item();
    return [distance(parameters.get(key) as Tensor), distance(read('init').get(key) as Tensor)] as const;
  }),
);
const total = (i: 0 | 1): number => Math.sqrt(moved.reduce((sum, one) => sum + one[i], 0));
console.log(JSON.stringify({ losses, distance: total(0) / total(1) }));
process.exit(0);
