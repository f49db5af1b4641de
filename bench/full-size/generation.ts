/**
 * @file Our side of bench/generate.ts: a process that loads the models and generates an image for each line that it reads.
 *
 *     generation.ts MODELS THREADS
 */
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { IPAdapterPipeline } from '../../src/generation/pipeline.js';
import { torchVersion } from '../../src/torch/index.js';

export interface GenerationRequest {
  /** Width and height, in pixels. */
  size: number;
  steps: number;
  /** Whether the sides of guidance are predicted in turn; only we can. */
  inTurn: boolean;
}

export interface GeneratedOnce {
  /** Seconds of each step but the first, which is one call of the UNet with both sides of guidance. */
  calls: number[];
  /** Seconds of the whole image. */
  image: number;
  /** The same in seconds of all processors, which other processes change less. */
  processor: number;
  /** Peak resident bytes of the process so far. */
  peak: number;
}

const [models = '', threads = '1'] = process.argv.slice(2);
const pipeline = await IPAdapterPipeline.load({
  model: join(models, 'model'),
  adapter: join(models, 'ip_adapter.safetensors'),
  threads: Number(threads),
  device: 'cpu',
});
process.stdout.write(`LibTorch ${torchVersion()}\n`);
for await (const line of createInterface(process.stdin)) {
  const { size, steps, inTurn } = JSON.parse(line) as GenerationRequest;
  const times: number[] = [];
  const begin = performance.now();
  const usage = process.cpuUsage();
  const [image] = await pipeline.generate(
    {
      prompt: 'a red circle',
      images: [join(models, 'features.safetensors')],
      guidanceBatch: inTurn ? 'in-turn' : 'together',
      scheduler: 'euler',
      ...{ steps, width: size, height: size },
    },
    { onEvent: (event) => event.type === 'progress' && times.push(performance.now()) },
  );
  const result: GeneratedOnce = {
    calls: times.slice(1).map((time, i) => (time - (times[i] as number)) / 1000),
    image: (performance.now() - begin) / 1000,
    processor: secondsOf(process.cpuUsage(usage)),
    peak: process.resourceUsage().maxRSS * 1024,
  };
  await image?.save(join(models, 'ours.png'));
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

function secondsOf({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) / 1e6;
}
