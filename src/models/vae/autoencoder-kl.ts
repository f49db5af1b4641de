/**
 * @file The VAE, which encodes images to latents and decodes them (Rombach et al., arXiv 2112.10752, section 3.1; diffusers
 * `src/diffusers/models/autoencoder_kl.py` and `src/diffusers/models/vae.py`).
 */
import { Conv2d, GroupNorm } from '../../nn/layers.js';
import { ConfigReader, MAX_LAYERS } from '../../nn/model-config.js';
import { chain, Module } from '../../nn/module.js';
import { Generator, randn, type Tensor, tidy } from '../../torch/index.js';
import { Attention } from '../layers/attention.js';
import { Downsample2D, normSiluConv, ResnetBlock2D, Upsample2D } from '../layers/resnet.js';
import { canTile, inTiles, type TileSize } from './tiling.js';

// The value of every norm in upstream's VAE.
const eps = 1e-6;

export interface AutoencoderKLConfig {
  inChannels: number;
  outChannels: number;
  latentChannels: number;
  /** Channels of each level, from the image's resolution to the latents'. */
  blockOutChannels: readonly number[];
  layersPerBlock: number;
  groups: number;
  /** The side of the images that it was trained on, in pixels, which is the side of a tile. */
  sampleSize: number;
  /** The factor that scales latents for the UNet, and must be divided by before decoding; the model does neither itself. */
  scalingFactor: number;
}

/**
 * Reads an AutoencoderKL's config.
 * @param json the parsed config.json
 * @param where its path, for errors
 * @throws ConfigError for an unsupported value or an unknown key
 */
export function parseVAEConfig(json: unknown, where: string): AutoencoderKLConfig {
  const reader = new ConfigReader(json, where);
  const blockOutChannels = reader.counts('block_out_channels', [64]);
  const blocks = blockOutChannels.length;
  reader.names('down_block_types', ['DownEncoderBlock2D'], ['DownEncoderBlock2D'], blocks);
  reader.names('up_block_types', ['UpDecoderBlock2D'], ['UpDecoderBlock2D'], blocks);
  const config: AutoencoderKLConfig = {
    inChannels: reader.count('in_channels', 3),
    outChannels: reader.count('out_channels', 3),
    latentChannels: reader.count('latent_channels', 4),
    blockOutChannels,
    layersPerBlock: reader.count('layers_per_block', 1, MAX_LAYERS),
    groups: reader.count('norm_num_groups', 32),
    sampleSize: reader.countPerBlock('sample_size', 32, 2)[0] as number,
    scalingFactor: reader.number('scaling_factor', 0.18215),
  };
  reader.oneOf('act_fn', 'silu', ['silu', 'swish']);
  reader.only({
    latents_mean: null,
    latents_std: null,
    mid_block_add_attention: true,
    shift_factor: null,
    use_post_quant_conv: true,
    use_quant_conv: true,
  });
  // force_upcast warns of float16; the caller chooses the dtype.
  reader.ignore('force_upcast');
  reader.finish();
  return config;
}

/** A normal distribution over latents, each [batch, latentChannels, h, w]. */
export interface LatentDistribution {
  mean: Tensor;
  /** -30 … 20 */
  logvar: Tensor;
  /** exp(logvar / 2) */
  std: Tensor;
}

/** Returns mean + std · noise. A generator, on the latents' device, stands for standard normal noise. */
export function sampleLatents(
  { mean, std }: Pick<LatentDistribution, 'mean' | 'std'>,
  noise: Tensor | Generator,
): Tensor {
  return tidy(() => {
    const { shape, dtype, device } = mean;
    const values = noise instanceof Generator ? randn(shape, { generator: noise, dtype, device }) : noise;
    return mean.add(std.mul(values));
  });
}

export interface TilingOptions {
  /** Whether images larger than `sampleSize` are computed in tiles, as with diffusers' `enable_tiling`; default: false. */
  tiling?: boolean;
}

/** Images [batch, inChannels, h, w] in -1 … 1 → their reconstruction from the mean latents */
export class AutoencoderKL extends Module<[image: Tensor]> {
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  readonly quant_conv: Conv2d;
  readonly post_quant_conv: Conv2d;
  readonly config: AutoencoderKLConfig;

  constructor(config: AutoencoderKLConfig) {
    super();
    const { latentChannels } = config;
    this.encoder = new Encoder(config);
    this.decoder = new Decoder(config);
    this.quant_conv = new Conv2d(latentChannels * 2, latentChannels * 2, 1);
    this.post_quant_conv = new Conv2d(latentChannels, latentChannels, 1);
    this.config = config;
  }

  /** Encodes images [batch, inChannels, h, w] in -1 … 1 to distributions of latents [batch, latentChannels, h/8, w/8]. */
  encode(image: Tensor, options?: TilingOptions): LatentDistribution {
    return tidy(() => {
      const network = (pixels: Tensor): Tensor => tidy(() => this.quant_conv.call(this.encoder.call(pixels)));
      const { pixels: input, latents: output } = this.#tile();
      const moments = this.#run(network, image.to(this.quant_conv.weight.dtype), { input, output }, options);
      const [mean, rawLogvar] = moments.chunk(2, 1) as [Tensor, Tensor];
      const logvar = rawLogvar.clamp(-30, 20);
      return { mean, logvar, std: logvar.mul(0.5).exp() };
    });
  }

  /** Decodes unscaled latents [batch, latentChannels, h, w] to images [batch, outChannels, 8h, 8w] in about -1 … 1, not clamped. */
  decode(latents: Tensor, options?: TilingOptions): Tensor {
    return tidy(() => {
      const network = (tile: Tensor): Tensor =>
        tidy(() => this.decoder.call(this.post_quant_conv.call(tile)));
      const { pixels: output, latents: input } = this.#tile();
      return this.#run(network, latents.to(this.post_quant_conv.weight.dtype), { input, output }, options);
    });
  }

  /** Whether its tiles are large enough to overlap; others must not be asked for. */
  get canTile(): boolean {
    return canTile(this.#tile().latents);
  }

  /** The sides of a tile. */
  #tile(): { pixels: number; latents: number } {
    const { sampleSize, blockOutChannels } = this.config;
    return { pixels: sampleSize, latents: Math.trunc(sampleSize / 2 ** (blockOutChannels.length - 1)) };
  }

  #run(
    network: (x: Tensor) => Tensor,
    x: Tensor,
    tile: TileSize,
    { tiling = false }: TilingOptions = {},
  ): Tensor {
    const [, , height = 0, width = 0] = x.shape;
    if (!tiling || Math.max(height, width) <= tile.input) return network(x);
    return inTiles(x, network, tile);
  }

  protected forward(image: Tensor): Tensor {
    return this.decode(this.encode(image).mean);
  }
}

/** [batch, inChannels, h, w] → [batch, 2 * latentChannels, h/8, w/8] */
class Encoder extends Module {
  readonly conv_in: Conv2d;
  readonly down_blocks: readonly DownEncoderBlock2D[];
  readonly mid_block: MidBlock2D;
  readonly conv_norm_out: GroupNorm;
  readonly conv_out: Conv2d;

  constructor({ inChannels, latentChannels, blockOutChannels, layersPerBlock, groups }: AutoencoderKLConfig) {
    super();
    const first = blockOutChannels[0] as number;
    const last = blockOutChannels.at(-1) as number;
    this.conv_in = new Conv2d(inChannels, first, 3, { padding: 1 });
    this.down_blocks = blockOutChannels.map((channels, i) => {
      const isLast = i === blockOutChannels.length - 1;
      return new DownEncoderBlock2D(
        blockOutChannels[i - 1] ?? first,
        channels,
        layersPerBlock,
        groups,
        !isLast,
      );
    });
    this.mid_block = new MidBlock2D(last, groups);
    this.conv_norm_out = new GroupNorm(groups, last, eps);
    this.conv_out = new Conv2d(last, latentChannels * 2, 3, { padding: 1 });
  }

  protected forward(image: Tensor): Tensor {
    const out = normSiluConv(this.conv_norm_out, this.conv_out);
    return chain(image, [this.conv_in, ...this.down_blocks, this.mid_block, ...out]);
  }
}

/** [batch, latentChannels, h, w] → [batch, outChannels, 8h, 8w] */
class Decoder extends Module {
  readonly conv_in: Conv2d;
  readonly up_blocks: readonly UpDecoderBlock2D[];
  readonly mid_block: MidBlock2D;
  readonly conv_norm_out: GroupNorm;
  readonly conv_out: Conv2d;

  constructor({
    outChannels,
    latentChannels,
    blockOutChannels,
    layersPerBlock,
    groups,
  }: AutoencoderKLConfig) {
    super();
    const fromLowest = [...blockOutChannels].reverse();
    const lowest = fromLowest[0] as number;
    const highest = fromLowest.at(-1) as number;
    this.conv_in = new Conv2d(latentChannels, lowest, 3, { padding: 1 });
    this.up_blocks = fromLowest.map((channels, i) => {
      const isLast = i === fromLowest.length - 1;
      return new UpDecoderBlock2D(fromLowest[i - 1] ?? lowest, channels, layersPerBlock + 1, groups, !isLast);
    });
    this.mid_block = new MidBlock2D(lowest, groups);
    this.conv_norm_out = new GroupNorm(groups, highest, eps);
    this.conv_out = new Conv2d(highest, outChannels, 3, { padding: 1 });
  }

  protected forward(latents: Tensor): Tensor {
    const out = normSiluConv(this.conv_norm_out, this.conv_out);
    return chain(latents, [this.conv_in, this.mid_block, ...this.up_blocks, ...out]);
  }
}

/** [batch, inChannels, h, w] → [batch, outChannels, h/2, w/2]; the last block does not resize */
class DownEncoderBlock2D extends Module {
  readonly resnets: readonly ResnetBlock2D[];
  readonly downsamplers: readonly Downsample2D[];

  constructor(inChannels: number, outChannels: number, layers: number, groups: number, downsample: boolean) {
    super();
    this.resnets = resnets(inChannels, outChannels, layers, groups);
    this.downsamplers = downsample ? [new Downsample2D(outChannels, 0)] : [];
  }

  protected forward(x: Tensor): Tensor {
    return chain(x, [...this.resnets, ...this.downsamplers]);
  }
}

/** [batch, inChannels, h, w] → [batch, outChannels, 2h, 2w]; the last block does not resize */
class UpDecoderBlock2D extends Module {
  readonly resnets: readonly ResnetBlock2D[];
  readonly upsamplers: readonly Upsample2D[];

  constructor(inChannels: number, outChannels: number, layers: number, groups: number, upsample: boolean) {
    super();
    this.resnets = resnets(inChannels, outChannels, layers, groups);
    this.upsamplers = upsample ? [new Upsample2D(outChannels)] : [];
  }

  protected forward(x: Tensor): Tensor {
    return chain(x, [...this.resnets, ...this.upsamplers]);
  }
}

/** Single-head attention over all pixels between two ResNet blocks: [batch, channels, h, w] → the same shape */
class MidBlock2D extends Module {
  readonly attentions: readonly [Attention];
  readonly resnets: readonly ResnetBlock2D[];

  constructor(channels: number, groups: number) {
    super();
    const config = {
      queryDim: channels,
      heads: 1,
      dimHead: channels,
      bias: true,
      upcast: true,
      norm: { groups, eps },
    };
    this.attentions = [new Attention(config)];
    this.resnets = resnets(channels, channels, 2, groups);
  }

  protected forward(x: Tensor): Tensor {
    const [first, second] = this.resnets as [ResnetBlock2D, ResnetBlock2D];
    return chain(x, [first, this.attentions[0], second]);
  }
}

function resnets(inChannels: number, outChannels: number, layers: number, groups: number): ResnetBlock2D[] {
  return Array.from(
    { length: layers },
    (_, i) =>
      new ResnetBlock2D({
        inChannels: i === 0 ? inChannels : outChannels,
        outChannels,
        timeDim: null,
        groups,
        eps,
      }),
  );
}
