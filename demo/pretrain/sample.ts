/**
 * @file Text-to-image generation with the demo's models: deterministic DDIM (Song et al., arXiv 2010.02502, equation 12) with
 * classifier-free guidance, for v-prediction.
 */
import type { CLIPTextModel } from '../../src/models/clip/clip-text-model.js';
import type { ClipTokenizer } from '../../src/models/clip/clip-tokenizer.js';
import type { UNet2DConditionModel } from '../../src/models/unet/unet-2d-condition.js';
import type { AutoencoderKL } from '../../src/models/vae/autoencoder-kl.js';
import type { DDPMScheduler } from '../../src/schedulers/ddpm.js';
import { cat, type Generator, noGrad, randn, type Tensor, tensor, tidy } from '../../src/torch/index.js';
import { SIDE } from '../world/render.js';

export interface Models {
  unet: UNet2DConditionModel;
  vae: AutoencoderKL;
  textEncoder: CLIPTextModel;
  tokenizer: ClipTokenizer;
  scheduler: DDPMScheduler;
}

export interface SampleOptions {
  generator: Generator;
  /** Default: 20 */
  steps?: number;
  /** Default: 3 */
  guidance?: number;
}

/** Generates an image for each caption: row-major RGB, SIDE × SIDE × 3. */
export function generateImages(
  models: Models,
  captions: readonly string[],
  options: SampleOptions,
): Uint8Array[] {
  using _ = noGrad();
  const { generator, steps = 20, guidance = 3 } = options;
  const { unet, vae, scheduler } = models;
  return tidy(() => {
    const text = textStates(models, captions);
    const none = textStates(
      models,
      captions.map(() => ''),
    );
    const factor = 2 ** (vae.config.blockOutChannels.length - 1);
    const size = SIDE / factor;
    let latents = randn([captions.length, vae.config.latentChannels, size, size], { generator });
    const alphas = scheduler.alphasCumprod.toNumbers();
    const stride = Math.floor(scheduler.numTrainTimesteps / steps);
    for (let i = steps - 1; i >= 0; i--) {
      const t = i * stride + 1;
      const alpha = alphas[t] as number;
      const next = alphas[Math.max(0, t - stride)] as number;
      latents = tidy(() => {
        const at = tensor([t], [1], 'int64');
        const [plain, guided] = unet.call(cat([latents, latents]), at, cat([none, text])).chunk(2) as [
          Tensor,
          Tensor,
        ];
        const velocity = plain.add(guided.sub(plain), guidance);
        const clean = latents.mul(Math.sqrt(alpha)).sub(velocity.mul(Math.sqrt(1 - alpha)));
        const noise = latents.mul(Math.sqrt(1 - alpha)).add(velocity, Math.sqrt(alpha));
        return clean.mul(Math.sqrt(next)).add(noise, Math.sqrt(1 - next));
      });
    }
    return toBytes(vae.decode(latents.div(vae.config.scalingFactor)));
  });
}

/** Images [batch, 3, SIDE, SIDE] in -1 … 1 → RGB bytes, rounded */
export function toBytes(images: Tensor): Uint8Array[] {
  const all = tidy(() =>
    images.permute(0, 2, 3, 1).add(1).mul(127.5).add(0.5).clamp(0, 255).to('uint8').contiguous().toArray(),
  );
  const length = SIDE * SIDE * 3;
  return Array.from({ length: all.length / length }, (_, i) =>
    Uint8Array.from(all.subarray(i * length, (i + 1) * length) as Uint8Array),
  );
}

/** Returns the text encoder's last hidden states, [captions, maxLength, width]. */
export function textStates(
  { tokenizer, textEncoder }: Pick<Models, 'tokenizer' | 'textEncoder'>,
  captions: readonly string[],
): Tensor {
  const ids = captions.flatMap((caption) => tokenizer.encode(caption));
  return tidy(
    () => textEncoder.call(tensor(ids, [captions.length, tokenizer.maxLength], 'int64')).lastHiddenState,
  );
}

/** Arranges images in rows of one large image. */
export function contactSheet(
  all: readonly Uint8Array[],
  columns: number,
): { data: Uint8Array; width: number; height: number } {
  const width = columns * SIDE;
  const height = Math.ceil(all.length / columns) * SIDE;
  const data = new Uint8Array(width * height * 3);
  for (const [i, image] of all.entries())
    for (let y = 0; y < SIDE; y++) {
      const row = Math.floor(i / columns) * SIDE + y;
      data.set(image.subarray(y * SIDE * 3, (y + 1) * SIDE * 3), (row * width + (i % columns) * SIDE) * 3);
    }
  return { data, width, height };
}
