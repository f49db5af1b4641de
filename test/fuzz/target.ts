/** @file What is fuzzed: makers of hostile inputs beside the readers that must survive them. */
import { writeFileSync } from 'node:fs';
import type { Random } from '../../demo/world/random.js';
import { seededRandom } from '../../demo/world/random.js';
import { UserError } from '../../src/base/errors.js';
import { native } from '../../src/torch/native.js';

/** One kind of input and its reader. */
export interface Target {
  /** Where the input is written before it is read. */
  file: string;
  /** One input; the same for the same random numbers. */
  make(random: Random): Buffer;
  /** Reads all that is in the file, as training and generation would. */
  read(): unknown;
}

export type TargetFactory = (folder: string) => Target | Promise<Target>;

/** No error is longer: it is for a terminal. */
const MAX_MESSAGE = 4000;
/** Processor time of one input, in seconds. */
const MAX_SECONDS = 2;
/** Growth of the process's peak over one input, in bytes; several times what V8's heap may grow by between collections. */
const MAX_GROWTH = 384 << 20;

export interface Outcome {
  verdict: 'accepted' | 'refused' | 'finding';
  /** Of a finding. */
  what?: string;
}

/** The index-th input of a seed. */
export function makeInput(target: Target, seed: number, index: number): Buffer {
  return target.make(seededRandom(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b)));
}

/** Writes the input, reads it, and judges what became of it. */
export async function attempt(target: Target, input: Buffer): Promise<Outcome> {
  writeFileSync(target.file, input);
  const tensors = native().liveTensors();
  const peak = process.resourceUsage().maxRSS;
  const begin = process.cpuUsage();
  const found = (what: string): Outcome => ({ verdict: 'finding', what });
  let verdict: Outcome['verdict'] = 'accepted';
  try {
    await target.read();
  } catch (error) {
    if (!(error instanceof UserError))
      return found(error instanceof Error ? (error.stack ?? '') : String(error));
    if (error.message.length > MAX_MESSAGE) return found(`a message of ${error.message.length} characters`);
    verdict = 'refused';
  }
  const { user, system } = process.cpuUsage(begin);
  const seconds = (user + system) / 1e6;
  if (seconds > MAX_SECONDS) return found(`took ${seconds.toFixed(1)} s`);
  const growth = (process.resourceUsage().maxRSS - peak) * 1024;
  if (growth > MAX_GROWTH) return found(`took ${Math.round(growth / 2 ** 20)} MiB`);
  const left = native().liveTensors() - tensors;
  return left > 0 ? found(`left ${left} tensors`) : { verdict };
}
