import { describe, expect, it } from 'vitest';
import { nearestName } from './nearest-name.js';

describe('nearestName', () => {
  const names = ['learningRate', 'trainBatchSize', 'seed', 'saveSteps', 'resume'];

  it.each([
    ['lerning_rate', 'learningRate'],
    ['LEARNING-RATE', 'learningRate'],
    ['batch_size', 'trainBatchSize'],
    ['sed', 'seed'],
    ['save_step', 'saveSteps'],
  ])('%s is meant for %s', (written, meant) => {
    expect(nearestName(written, names)).toBe(meant);
  });

  it('is undefined where no name is close', () => {
    for (const written of ['guidance', 'x', 'optimizer']) expect(nearestName(written, names)).toBeUndefined();
    expect(nearestName('seed', [])).toBeUndefined();
  });

  it('returns the first of two equally close names', () => {
    expect(nearestName('abcx', ['abcy', 'abcz'])).toBe('abcy');
    expect(nearestName('abcx', ['abcz', 'abcy', 'abcx'])).toBe('abcx');
  });
});
