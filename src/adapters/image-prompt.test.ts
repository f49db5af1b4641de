import { describe, expect, it } from 'vitest';
import { expectAllclose, golden } from '../../test/golden.js';
import type { EmbedsScaling } from '../options/reference-options.js';
import { cat, Generator, noGrad, randn, type Tensor, tensor, zeros, zipTensors } from '../torch/index.js';
import { loadUNet } from '../weights/load.js';
import { ImageProjModel } from './base.js';
import { scaledAttention } from './embeds-scaling.js';
import { type ImagePrompt, isActive, isUsed, promptAddition, sideTokens } from './image-prompt.js';
import { IPAdapter } from './ip-adapter.js';
import type { SitePlan } from './weight-types.js';

const generator = new Generator('cpu', 3);
const random = (...shape: number[]): Tensor => randn(shape, { generator });

describe('what a prompt adds', () => {
  const unet = loadUNet(golden('unet/unet') as string);
  const sites = unet.sites();
  const adapter = new IPAdapter(
    sites,
    new ImageProjModel({ embeddingDim: 8, numTokens: 4, crossAttentionDim: 32 }),
  ).init(generator);
  const [tokens, negativeTokens, compositionTokens] = [random(1, 4, 32), random(1, 4, 32), random(1, 4, 32)];
  const prompt: ImagePrompt = {
    ...{ adapter, tokens, negativeTokens, compositionTokens, range: [0, 1] },
    scale: new Map(
      sites.map(({ name }, i) => [
        name,
        { scale: 0.5, tokens: (['image', 'composition', 'exchanged'] as const)[i % 3] ?? 'image' },
      ]),
    ),
  };

  it('takes the tokens of its plan at each site, exchanged ones on the other side of guidance', () => {
    using _ = noGrad();
    const [sample, text] = [random(1, 4, 8, 8), random(1, 7, 32)];
    const { negative, positive } = sideTokens(prompt);
    const joined = zipTensors([negative, positive], (pair) => cat(pair));
    const nothing = zeros(tokens.shape);
    const expected = {
      image: cat([negativeTokens, tokens]),
      composition: cat([negativeTokens, compositionTokens]),
      exchanged: cat([tokens, nothing]),
    };
    const seen: string[] = [];
    const inner = promptAddition(prompt, joined);
    const both = (x: Tensor): Tensor => cat([x, x]);
    unet.call(both(sample), tensor([500], [1], 'int64'), both(text), undefined, [
      {
        at(call) {
          const added = inner.at(call);
          const use = (prompt.scale as SitePlan).get(call.site.name)?.tokens ?? 'image';
          const plain = adapter.addition(expected[use], 0.5).at(call);
          expect(added?.weight).toBe(plain?.weight);
          expectAllclose(added?.hidden as Tensor, plain?.hidden as Tensor, 1e-6);
          seen.push(use);
          return added;
        },
      },
    ]);
    expect(seen).toHaveLength(sites.length);
    expect(new Set(seen).size).toBe(3);
  });

  it('is nothing at sites that the plan leaves out', () => {
    const only = new Map([[sites[0]?.name as string, { scale: 1, tokens: 'image' as const }]]);
    const addition = promptAddition({ ...prompt, scale: only }, sideTokens(prompt).positive);
    const attend = (key: Tensor): Tensor => key;
    const at = (i: number) =>
      addition.at({ site: sites[i] as (typeof sites)[0], grid: [1, 1], attended: prompt.tokens, attend });
    expect(at(0)).not.toBeNull();
    expect(at(1)).toBeNull();
    expect(isUsed({ scale: only })).toBe(true);
    expect(isUsed({ scale: new Map([['x', { scale: 0, tokens: 'image' }]]) })).toBe(false);
    expect(isUsed({ scale: 0 })).toBe(false);
  });
});

describe('embeds scalings', () => {
  const [key, value] = [random(1, 3, 320), random(1, 3, 320)];
  const mean = value.mean([1], true);

  // C is 320, a quarter of 1280: 0.8 becomes 0.2.
  it.each<[EmbedsScaling, number, () => Tensor, () => Tensor]>([
    ['v-only', 0.8, () => key, () => value],
    ['k+v', 1, () => key.mul(0.8), () => value.mul(0.8)],
    ['k+v-c-penalty', 1, () => key.mul(0.2), () => value.mul(0.2)],
    ['k+mean-v-c-penalty', 1, () => key.mul(0.2), () => value.sub(mean).add(mean.mul(0.2))],
  ])('%s', (scaling, weight, expectedKey, expectedValue) => {
    let called: Tensor[] = [];
    const scaled = scaledAttention(scaling, 0.8, (...tensors) => {
      called = tensors;
      return key;
    });
    scaled.attend(key, value);
    expect(scaled.weight).toBe(weight);
    expectAllclose(called[0] as Tensor, expectedKey(), 1e-6);
    expectAllclose(called[1] as Tensor, expectedValue(), 1e-6);
  });
});

describe('isActive', () => {
  /** The timesteps of ten at which a prompt acts. */
  const active = (range: [number, number], trainedTimesteps?: number): number[] =>
    [901, 801, 701, 601, 501, 401, 301, 201, 101, 1].filter((timestep, step) =>
      isActive({ range, trainedTimesteps }, step, 10, timestep),
    );

  it('compares noise levels with shares of the schedule, and counts steps without one', () => {
    expect(active([0, 1], 1000)).toHaveLength(10);
    expect(active([0, 0.5], 1000)).toEqual([901, 801, 701, 601, 501]);
    expect(active([0.2, 0.7], 1000)).toEqual([701, 601, 501, 401, 301]);
    expect(active([0.2, 0.7])).toEqual([701, 601, 501, 401, 301]);
    // Share 0.1 begins below timestep 899.1: the first step of ten is before it, but the share's end excludes none of the rest.
    expect(active([0.1, 1], 1000)).toEqual([801, 701, 601, 501, 401, 301, 201, 101, 1]);
    expect(active([0.5, 0.5], 1000)).toEqual([]);
  });
});
