import { describe, expect, it } from 'vitest';
import { type Tensor, tensor } from '../torch/index.js';
import type { ImageEmbeddings } from './metrics.js';
import { differencesOf, scoresOf, valuesOf } from './scores.js';

const half = Math.SQRT1_2;
const of = (clip: Tensor, pixels = clip): ImageEmbeddings => ({ clip, pixels });
// Three prompts at right angles; the third image looks like the first prompt.
const prompts = tensor([1, 0, 0, 0, 1, 0, 0, 0, 1], [3, 3]);
const drawn = tensor([1, 0, 0, 0, half, half, half, 0, half], [3, 3]);
const wanted = (captions: Tensor | null) => ({ references: of(prompts), captions });
const mean = (values: readonly number[] | null | undefined): number =>
  (values as number[]).reduce((sum, value) => sum + value, 0) / (values as number[]).length;

describe('values', () => {
  it('are the cosines to the own prompt, to the others and to the caption', () => {
    const values = valuesOf(of(drawn), wanted(prompts), 1);
    expect(mean(values.clipI)).toBeCloseTo((1 + half + half) / 3, 6);
    expect(mean(values.clipIOthers)).toBeCloseTo((half + half) / 6, 6);
    expect(values.clipT).toEqual(values.clipI);
    expect(mean(values.clipScore)).toBeCloseTo((2.5 * (1 + half + half)) / 3, 6);
    const opposite = tensor([-1, 0, 0, 0, -1, 0, 0, 0, 1], [3, 3]);
    expect(mean(valuesOf(of(opposite), wanted(prompts), 1).clipScore)).toBeCloseTo(2.5 / 3, 6);
    const alone = valuesOf(of(drawn), wanted(null), 1);
    expect([alone.clipT, alone.clipScore, alone.dino]).toEqual([null, null, null]);
  });

  it('count the images that are closest to their own prompt', () => {
    const nearer = tensor([1, 0, 0, 0, 0.8, 0.6, 0.8, 0, 0.6], [3, 3]);
    expect(valuesOf(of(nearer), wanted(null), 1).retrieval).toEqual([1, 1, 0]);
    expect(valuesOf(of(prompts), wanted(null), 1).retrieval).toEqual([1, 1, 1]);
  });

  it('are means over the images of a row', () => {
    const four = of(tensor([1, 0, 0, 1, 0, 1, 0, 1], [4, 2]));
    const two = { references: of(tensor([1, 0, 0, 1], [2, 2])), captions: null };
    expect(valuesOf(four, two, 2).clipI).toEqual([0.5, 1]);
  });

  it('are those of another row with a shift', () => {
    const { clipI, retrieval } = valuesOf(of(drawn), wanted(null), 1, 1);
    for (const [i, expected] of [0, half, half].entries()) expect(clipI[i]).toBeCloseTo(expected, 6);
    expect(valuesOf(of(prompts), wanted(null), 1, 1).retrieval).toEqual([0, 0, 0]);
    expect(retrieval[0]).toBe(0);
  });

  it('call an image a copy by its pixels, not by its embedding', () => {
    const close = tensor([0.96, 0.28, 0, 0, 0.94, 0.3412, 0, 0, 1], [3, 3]);
    expect(valuesOf(of(drawn, close), wanted(null), 1).copies).toEqual([1, 0, 1]);
  });
});

it('scores have intervals over rows, and their differences are of pairs', () => {
  const [a, b] = [valuesOf(of(prompts), wanted(null), 1), valuesOf(of(drawn), wanted(null), 1)];
  const { clipI, retrieval } = scoresOf(a);
  expect(clipI).toEqual({ mean: 1, low: 1, high: 1 });
  expect(retrieval.mean).toBe(1);
  expect(retrieval.low).toBeLessThan(0.5);
  const difference = differencesOf(a, b).clipI;
  expect(difference.mean).toBeCloseTo((2 * (1 - half)) / 3, 6);
  expect(difference.low).toBeLessThan(0);
  expect(differencesOf(a, a).clipI).toEqual({ mean: 0, low: 0, high: 0 });
});
