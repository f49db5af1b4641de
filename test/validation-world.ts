/** @file The small world of eight images and the options of a training in it that draws validation images. */
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import type { TrainOptions } from '../src/options/train-types.js';
import { makeWorld, type World } from './e2e/world.js';

/** Makes the world before the tests of the file that calls it, and removes it after them. */
export function useValidationWorld() {
  let world: World;
  beforeAll(async () => {
    world = await makeWorld(8);
  });
  afterAll(() => world.remove());

  const at = (...parts: string[]): string => join(world.root, ...parts);
  const optionsFor = (name: string): TrainOptions => ({
    ...world.optionsFor(name),
    batchSize: 3,
    learningRate: 1e-3,
    seed: 5,
    saveSteps: 2,
  });
  const prompts = (): string[] => [at('images', '0.png'), at('images', '3.png')];
  const drawing = (): Partial<TrainOptions> => ({
    validationImages: prompts(),
    validationPrompts: ['a', 'b'],
    validationSteps: 2,
    numValidationImages: 2,
    validationScales: 0.7,
    validationGuidanceScale: 4,
    validationSamplingSteps: 3,
  });
  return { at, optionsFor, prompts, drawing };
}
