import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { useValidationWorld } from '../../test/validation-world.js';
import type { TrainOptions } from '../options/train-types.js';

import { train } from './train.js';

const { at, optionsFor, drawing } = useValidationWorld();

describe('wrong options of validation images', () => {
  const nothing = (): TrainOptions => ({ ...optionsFor('nothing'), ...drawing() });
  it.each<[string, () => TrainOptions, RegExp]>([
    [
      'texts for other images',
      () => ({ ...nothing(), validationPrompts: ['a', 'b', 'c'] }),
      /has 3 prompts for 2 --validation-images/,
    ],
    [
      'a text without an image',
      () => ({ ...optionsFor('nothing'), validationPrompts: ['a'] }),
      /has 1 prompts for 0 --validation-images/,
    ],
    [
      'a file that is not an image',
      () => ({ ...nothing(), validationImages: [at('images', '0.png'), at('data.json')] }),
      /Expected an image in .*data\.json/,
    ],
    [
      'more steps than there are timesteps',
      () => ({ ...nothing(), validationSamplingSteps: 1001 }),
      /at most 1000 steps, .* received 1001/,
    ],
    [
      'a scale below 0',
      () => ({ ...nothing(), validationScales: -1 }),
      /^validationScales is -1; it must be/,
    ],
    [
      'guidance below 0',
      () => ({ ...nothing(), validationGuidanceScale: -1 }),
      /^validationGuidanceScale is -1; it must be a number from 0/,
    ],
    [
      'no drawings',
      () => ({ ...nothing(), numValidationImages: 0 }),
      /^numValidationImages is 0; it must be a whole number from 1/,
    ],
    [
      'no steps between',
      () => ({ ...nothing(), validationSteps: 0 }),
      /^validationSteps is 0; it must be a whole number from 1/,
    ],
    [
      'a folder without a name',
      () => ({ ...nothing(), loggingDir: '' }),
      /^loggingDir is ""; it must not be empty$/,
    ],
    [
      'Weights & Biases',
      () => ({ ...nothing(), reportTo: 'wandb' }),
      /^reportTo is "wandb"; it must be tensorboard or none: .*@wandb\/sdk/,
    ],
    [
      'another tracker',
      () => ({ ...nothing(), reportTo: 'csv' }),
      /^reportTo is "csv"; it must be one of tensorboard, none$/,
    ],
  ])('%s is refused before anything is written', async (_, options, message) => {
    await expect(train(options())).rejects.toThrow(message);
    expect(existsSync(at('nothing'))).toBe(false);
  });

  it('a scheduler that cannot draw is found before the first step', async () => {
    const file = at('model', 'scheduler', 'scheduler_config.json');
    const before = readFileSync(file, 'utf8');
    writeFileSync(file, before.replace('"PNDMScheduler"', '"IPNDMScheduler"'));
    try {
      await expect(train(nothing())).rejects.toThrow(/IPNDMScheduler/);
      expect(existsSync(at('nothing'))).toBe(false);
    } finally {
      writeFileSync(file, before);
    }
  });
});
