/**
 * @file The frozen models in half precision, against the recorded float32 of the original: bf16 everywhere, fp16 on a GPU. The limits
 * are of ‖ours − recorded‖ / ‖recorded‖: bf16 rounds each operation to 2⁻⁸, fp16 to 2⁻¹¹.
 */
import { describe, expect, it } from 'vitest';
import { noGrad, type Tensor } from '../src/torch/index.js';
import { loadImageEncoder } from '../src/weights/image-encoders.js';
import { loadUNet, loadVAE } from '../src/weights/load.js';
import { type ModelCase, modelCases, recorded, target } from './golden.js';

type Half = 'bfloat16' | 'float16';
const limits: Record<Half, number> = { bfloat16: 3e-2, float16: 4e-3 };
const dtypes: Half[] = target.device === 'cpu' ? ['bfloat16'] : ['bfloat16', 'float16'];

/** For each group of golden models, what it makes of a case: pairs of ours and recorded. */
const models: Record<string, (one: ModelCase, dtype: Half) => [Tensor, Tensor][]> = {
  unet: (one, dtype) => {
    const input = (name: string) => recorded(one, name).to({ dtype });
    const added = ['text_embeds', 'time_ids'].map(
      (name) =>
        [...one.tensors].find(([key]) => key.split('.').at(-1) === name && !key.startsWith('grad.'))?.[1],
    );
    const [textEmbeds, timeIds] = added.map((tensor) => tensor?.to({ dtype }));
    const output = loadUNet(one.folder, { ...target, dtype }).call(
      input('sample'),
      recorded(one, 'timesteps'),
      input('encoder_hidden_states'),
      textEmbeds && timeIds && { textEmbeds, timeIds },
    );
    return [[output, recorded(one, 'output')]];
  },
  vae: (one, dtype) => {
    const vae = loadVAE(one.folder, { ...target, dtype });
    return [
      [vae.encode(recorded(one, 'image').to({ dtype })).mean, recorded(one, 'mean')],
      [vae.decode(recorded(one, 'z').to({ dtype })), recorded(one, 'decoded')],
    ];
  },
  image_encoder: (one, dtype) => {
    const model = loadImageEncoder(one.folder, { ...target, dtype });
    const hidden = model.hiddenStates(recorded(one, 'pixel_values').to({ dtype }), -2);
    return [[hidden, recorded(one, 'hidden_states.-2')]];
  },
};

describe.each(dtypes)('in %s', (dtype) => {
  const cases = Object.entries(models).flatMap(([group, run]) =>
    modelCases(group).map((one) => [one.name, one, run] as const),
  );
  it.each(cases)('%s', (_, one, run) => {
    using _grad = noGrad();
    for (const [ours, theirs] of run(one, dtype)) {
      expect(ours.dtype).toBe(dtype);
      const error = distance(ours, theirs);
      expect(error).toBeLessThan(limits[dtype]);
      // Not float32 under another name.
      expect(error).toBeGreaterThan(limits[dtype] / 1000);
    }
  });
});

function distance(ours: Tensor, theirs: Tensor): number {
  const expected = theirs.toNumbers();
  const squares = ours
    .to({ dtype: 'float32' })
    .toNumbers()
    .map((value, i) => [(value - (expected[i] as number)) ** 2, (expected[i] as number) ** 2] as const);
  return Math.sqrt(
    squares.reduce((sum, [error]) => sum + error, 0) / squares.reduce((sum, [, square]) => sum + square, 0),
  );
}
