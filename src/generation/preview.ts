/**
 * @file Previews: RGB images of latents by one linear map of their channels, in microseconds where the VAE's decoder takes
 * seconds. Each VAE has its own map, which is fitted by least squares to an image that the VAE encodes: SD 1.x, SDXL,
 * fine-tuned and small VAEs need no list of constants.
 */
import type { RgbImage } from '../base/rgb-image.js';
import type { AutoencoderKL } from '../diffusion/model.js';
import type { NoiseConfig } from '../schedulers/config.js';
import { predict } from '../schedulers/sampler.js';
import { trainedSigmas } from '../schedulers/sigmas.js';
import { cat, noGrad, ones, op, type Tensor, tensor, tidy } from '../torch/index.js';

/** Side of the image that the map is fitted to, in latents: 1024 equations for a handful of unknowns. */
const SIDE = 32;

/**
 * Returns the map of a VAE, float32 on the CPU: [channels + 1, 3], from the latents of a backbone and 1 to R, G and B, 0 … 1.
 * It encodes one image of 32 × 32 latents.
 */
export function fitPreview(vae: AutoencoderKL, downsample: number): Tensor {
  using _ = noGrad();
  return tidy(() => {
    const side = SIDE * downsample;
    const image = deadLeaves(side);
    const { dtype, device } = vae.encoder.conv_in.weight;
    const pixels = image.mul(2).sub(1).unsqueeze(0).to({ dtype, device });
    const latents = vae
      .encode(pixels)
      .mean.mul(vae.config.scalingFactor)
      .to({ dtype: 'float32', device: 'cpu' });
    // [3, side, side] → the mean of each latent's pixels, a row for each latent
    const colours = image
      .reshape(3, SIDE, downsample, SIDE, downsample)
      .mean([2, 4])
      .flatten(1)
      .transpose(0, 1);
    const rows = withOne(latents);
    // Normal equations, with a little on the diagonal for channels that say nothing.
    const transposed = rows.transpose(0, 1);
    const size = rows.shape[1] as number;
    const gram = transposed.matmul(rows).add(identity(size), 1e-3);
    return solve(gram, transposed.matmul(colours), true);
  });
}

/**
 * Returns an image of one pixel for each latent.
 * @param latents [n, channels, h, w]
 * @param map of `fitPreview`
 */
export function previewOf(latents: Tensor, map: Tensor): RgbImage[] {
  const [, , height = 0, width = 0] = latents.shape;
  return latents.split(1).map((one) => {
    const bytes = tidy(() =>
      withOne(one.to({ dtype: 'float32', device: 'cpu' }))
        .matmul(map)
        .clamp(0, 1)
        .mul(255)
        .add(0.5)
        .to('uint8')
        .toBytes(),
    );
    return { data: bytes, width, height };
  });
}

/**
 * Returns the latents without noise as a step sees them.
 * @param t its timestep
 * @param input the latents with noise, as the model takes them: √ᾱ·x0 + √(1−ᾱ)·noise for every sampler
 * @param prediction the guided prediction
 */
export function denoisedLatents(config: NoiseConfig, t: number, input: Tensor, prediction: Tensor): Tensor {
  const sigmas = trainedSigmas(config);
  const sigma = sigmas[Math.min(Math.round(t), sigmas.length - 1)] as number;
  return tidy(() => predict(config, prediction, input, 1 / (sigma ** 2 + 1)).x0);
}

/** [1, channels, h, w] → [h · w, channels + 1] */
function withOne(latents: Tensor): Tensor {
  const rows = latents.squeeze(0).flatten(1).transpose(0, 1);
  return cat([rows, ones([rows.shape[0] as number, 1])], 1);
}

const solve = op('aten::linalg_solve(Tensor A, Tensor B, *, bool left=True) -> Tensor');

function identity(size: number): Tensor {
  return tensor(
    Array.from({ length: size ** 2 }, (_, i) => (i % (size + 1) === 0 ? 1 : 0)),
    [size, size],
  );
}

/** Returns discs of random sizes and colours that hide each other, whose statistics are those of photographs, [3, side, side]. */
function deadLeaves(side: number): Tensor {
  const random = lehmer(1);
  const values = new Float32Array(3 * side ** 2).fill(0.5);
  for (let leaf = 0; leaf < 400; leaf++) {
    const radius = side / (4 + 60 * random() ** 0.5);
    const [x, y] = [random() * side, random() * side];
    const colour = [random(), random(), random()];
    const [top, bottom] = [Math.max(0, Math.ceil(y - radius)), Math.min(side - 1, Math.floor(y + radius))];
    for (let row = top; row <= bottom; row++) {
      const half = Math.sqrt(radius ** 2 - (row - y) ** 2);
      const [left, right] = [Math.max(0, Math.ceil(x - half)), Math.min(side, Math.floor(x + half) + 1)];
      for (const [channel, value] of colour.entries())
        values.fill(
          value,
          (channel * side + row) * side + left,
          (channel * side + row) * side + Math.max(left, right),
        );
    }
  }
  return tensor(values, [3, side, side]);
}

/** A sequence of numbers, 0 … 1, the same each time. */
function lehmer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
