/** @file Writes a step's random inputs, the same for both sides: images, tokens, noise, and encodings for cached encoders. */
import { writeSafetensors } from '../../src/formats/index.js';
import { Generator, randint, randn, tidy } from '../../src/torch/index.js';

export function writeInputs(file: string, resolution: number, rows = 1): void {
  const generator = new Generator('cpu', 1);
  const latent = [rows, 4, resolution / 8, resolution / 8];
  const random = (...shape: number[]) => randn(shape, { generator });
  const integers = (bound: number, ...shape: number[]) => randint(0, bound, shape, { generator });
  tidy(() =>
    writeSafetensors(
      file,
      new Map([
        ['pixels', random(rows, 3, resolution, resolution).clamp(-1, 1)],
        ['clip_pixels', random(rows, 3, 224, 224)],
        ['input_ids', integers(49408, rows, 77)],
        ['sample', random(...latent)],
        ['noise', random(...latent)],
        ['timesteps', integers(1000, rows)],
        ['latents', random(...latent)],
        ['image', random(rows, 257, 1280)],
        ['text', random(rows, 77, 768)],
      ]),
    ),
  );
}
