/**
 * @file Holds the timesteps of every sampler against diffusers', and walks each sampler to its end.
 *
 *     npm run interop:timesteps -- [--python PYTHON] [--work FOLDER]
 *
 * Every sampler with each timestep_spacing, 1 … 1000 steps. Where diffusers computes them slowly, for a spacing of noise levels
 * and for a second call in each step, 1 … 20 steps and then every 100th. What diffusers refuses must be refused here. Walks are
 * of a model that knows the image, of 1 … 8 steps and some up to 1000: no value may be infinite or NaN. A line for each; the
 * exit code is 1 where one misses.
 */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { ConfigError } from '../../src/base/errors.js';
import { alphasCumprodOf } from '../../src/schedulers/betas.js';
import {
  parseSchedulerConfig,
  type SamplerName,
  samplerNames,
  splitSamplerName,
} from '../../src/schedulers/config.js';
import { createSampler } from '../../src/schedulers/create.js';
import type { Sampler } from '../../src/schedulers/sampler.js';
import { full, Generator, randn, setNumThreads, tidy } from '../../src/torch/index.js';
import { createPython, run, versionsOf } from './environment.js';
import { diffusersScheduler } from './samplers.js';

const MAX_STEPS = 1000;
/** Timesteps that are not whole are float32 in diffusers, of which the largest are 6e-5 apart; their sums differ by more. */
const TOLERANCE = 5e-3;
const walked = [1, 2, 3, 4, 5, 6, 7, 8, 25, 100, 999, 1000];

const { values } = parseArgs({ options: { python: { type: 'string' }, work: { type: 'string' } } });
const environment = join(import.meta.dirname, '../../build/interop');
mkdirSync(environment, { recursive: true });
const python = values.python ?? createPython(environment);
const work = values.work ?? mkdtempSync(join(tmpdir(), 'ip-adapter-timesteps-'));
mkdirSync(work, { recursive: true });
setNumThreads(1);
console.log(versionsOf(python).join(', '));

const all = Array.from({ length: MAX_STEPS }, (_, i) => i + 1);
const some = all.filter((count) => count <= 20 || count % 100 === 0);
const slow: readonly SamplerName[] = ['dpm2', 'dpm2-a', 'dpmpp-sde'];
/** Stable Diffusion 1.5's. */
const config = {
  ...{ num_train_timesteps: MAX_STEPS, beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' },
  ...{ clip_sample: false, steps_offset: 1 },
};
const cases = samplerNames.flatMap((name) =>
  (['leading', 'trailing', 'linspace'] as const).map((timestep_spacing) => {
    const [className, options] = diffusersScheduler(name);
    return {
      ...{ name, timestep_spacing, className, file: `${name}.${timestep_spacing}.bin` },
      config: { ...config, ...options, timestep_spacing },
      counts: splitSamplerName(name).spacing === undefined && !slow.includes(name) ? all : some,
    };
  }),
);
writeFileSync(join(work, 'timesteps.json'), JSON.stringify(cases));
run(python, [join(import.meta.dirname, 'timesteps.py'), work]);

/** The share of the image in what the model sees, by timestep. */
const alphasCumprod = alphasCumprodOf(
  parseSchedulerConfig(JSON.stringify(config), 'scheduler_config.json').config,
).toNumbers();
let misses = 0;
let schedules = 0;
for (const { name, timestep_spacing, file, counts } of cases) {
  const model = parseSchedulerConfig(
    JSON.stringify({ ...config, timestep_spacing }),
    'scheduler_config.json',
  );
  using compared = createSampler(model, name);
  const { worst, faults } = compareTimesteps(compared, file, counts);
  for (const count of walked) {
    using sampler = createSampler(model, name);
    if (!canTake(sampler, count)) continue;
    const fault = walk(sampler, count);
    if (fault !== undefined) faults.push(`${count} steps: ${fault}`);
  }
  schedules += counts.length;
  misses += faults.length;
  const said =
    faults.length === 0 ? '' : `  ${faults.length} faults, the first: ${faults.slice(0, 3).join('; ')}`;
  console.log(
    `${faults.length === 0 ? 'ok  ' : 'MISS'}  ${name.padEnd(28)}${timestep_spacing.padEnd(10)}${String(counts.length).padStart(4)} schedules, error ${worst.toExponential(1)}${said}`,
  );
}
console.log(misses === 0 ? `${schedules} schedules agree, and all walks end` : `${misses} faults`);
if (misses > 0) process.exitCode = 1;

function compareTimesteps(
  sampler: Sampler,
  file: string,
  counts: readonly number[],
): { worst: number; faults: string[] } {
  const lengths: (number | string)[] = JSON.parse(readFileSync(join(work, `${file}.json`), 'utf8'));
  const bytes = readFileSync(join(work, file));
  const expected = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const faults: string[] = [];
  let worst = 0;
  let at = 0;
  counts.forEach((count, i) => {
    const length = lengths[i];
    if (typeof length !== 'number') {
      if (canTake(sampler, count)) faults.push(`${count} steps: diffusers refuses them: ${length}`);
      return;
    }
    // For some counts 'trailing' adds one before the first trained timestep, in diffusers: a sum of fractions that misses 0.
    const theirs = expected.subarray(at, at + length).filter((t) => t >= 0);
    at += length;
    sampler.setTimesteps(count);
    const ours = sampler.timesteps;
    if (ours.length !== theirs.length) {
      faults.push(`${count} steps: ${ours.length} timesteps for ${theirs.length}`);
      return;
    }
    const error = theirs.reduce((most, t, k) => Math.max(most, Math.abs(t - (ours[k] as number))), 0);
    worst = Math.max(worst, error);
    if (!(error <= TOLERANCE)) faults.push(`${count} steps: off by ${error.toFixed(3)}`);
  });
  return { worst, faults };
}

function canTake(sampler: Sampler, count: number): boolean {
  try {
    sampler.setTimesteps(count);
    return true;
  } catch (error) {
    if (error instanceof ConfigError) return false;
    throw error;
  }
}

/** Walks to the end; the model knows that the image is 0.5 everywhere. Returns what is wrong. */
function walk(sampler: Sampler, count: number): string | undefined {
  return tidy(() => {
    const generator = new Generator('cpu', 0);
    const image = full([1, 1, 2, 2], 0.5);
    const noise = () => randn([1, 1, 2, 2], { generator });
    sampler.setTimesteps(count);
    let x = noise().mul(sampler.initNoiseSigma);
    for (const t of sampler.timesteps) {
      const input = sampler.scaleModelInput(x, t);
      // 1000 'leading' steps with an offset of 1 begin after the last trained timestep.
      const at = Math.min(t, MAX_STEPS - 1);
      const [low, high] = [alphasCumprod[Math.floor(at)] as number, alphasCumprod[Math.ceil(at)] as number];
      const bar = low + (high - low) * (at - Math.floor(at));
      const prediction = input.add(image, -Math.sqrt(bar)).mul(1 / Math.sqrt(1 - bar));
      x = sampler.step(prediction, t, x, noise);
    }
    const largest = x.abs().max().item();
    return Number.isFinite(largest) ? undefined : `the walk ends at ${largest}`;
  });
}
