/**
 * @file The published tensor names and shapes of a single file of Stable Diffusion 1.x or XL, derived from the modules of the
 * original code (CompVis/stable-diffusion `ldm/modules/diffusionmodules/{openaimodel,model}.py`,
 * `ldm/modules/attention.py`, `ldm/models/{autoencoder,diffusion/ddpm}.py`; Stability-AI/generative-models
 * `sgm/modules/encoders/modules.py`; mlfoundations/open_clip) not from this package's loader.
 */
type Shapes = Map<string, number[]>;

/** The sizes of `configs/stable-diffusion/v1-inference.yaml`, of `configs/inference/sd_xl_base.yaml`, or smaller ones. */
export interface LdmSizes {
  unet: {
    modelChannels: number;
    channelMult: number[];
    resBlocks: number;
    contextDim: number;
    /** Transformer blocks of each level's layers. */
    transformerDepth: number[];
    /** SDXL: width of the pooled text and the sizes. */
    admChannels?: number;
  };
  vae: { ch: number; chMult: number[]; resBlocks: number };
  text: { width: number; layers: number; vocab: number };
  /** SDXL's second text encoder, whose projection is square. */
  openCLIP?: { width: number; layers: number; vocab: number };
}

export const v1: LdmSizes = {
  unet: {
    modelChannels: 320,
    channelMult: [1, 2, 4, 4],
    resBlocks: 2,
    contextDim: 768,
    transformerDepth: [1, 1, 1, 0],
  },
  vae: { ch: 128, chMult: [1, 2, 4, 4], resBlocks: 2 },
  text: { width: 768, layers: 12, vocab: 49408 },
};

export const xl: LdmSizes = {
  unet: {
    modelChannels: 320,
    channelMult: [1, 2, 4],
    resBlocks: 2,
    contextDim: 2048,
    transformerDepth: [0, 2, 10],
    admChannels: 2816,
  },
  vae: v1.vae,
  text: v1.text,
  openCLIP: { width: 1280, layers: 32, vocab: 49408 },
};

const part = (name: string, weight: number[], bias = true): [string, number[]][] => [
  [`${name}.weight`, weight],
  ...(bias ? ([[`${name}.bias`, [weight[0] as number]]] as [string, number[]][]) : []),
];
const conv = (name: string, input: number, output: number, size = 3) =>
  part(name, [output, input, size, size]);
const linear = (name: string, input: number, output: number, bias = true) =>
  part(name, [output, input], bias);
const norm = (name: string, channels: number) => part(name, [channels]);

/** Returns the shapes of `UNetModel`, by names without the file's prefix. */
export function ldmUNet({
  modelChannels,
  channelMult,
  resBlocks,
  contextDim,
  transformerDepth,
  admChannels,
}: LdmSizes['unet']): Shapes {
  const embed = modelChannels * 4;
  const resBlock = (name: string, input: number, output: number) => [
    ...norm(`${name}.in_layers.0`, input),
    ...conv(`${name}.in_layers.2`, input, output),
    ...linear(`${name}.emb_layers.1`, embed, output),
    ...norm(`${name}.out_layers.0`, output),
    ...conv(`${name}.out_layers.3`, output, output),
    ...(input === output ? [] : conv(`${name}.skip_connection`, input, output, 1)),
  ];
  const attention = (name: string, dim: number, context: number) => [
    ...linear(`${name}.to_q`, dim, dim, false),
    ...linear(`${name}.to_k`, context, dim, false),
    ...linear(`${name}.to_v`, context, dim, false),
    ...linear(`${name}.to_out.0`, dim, dim),
  ];
  // SDXL's projections are linear layers (`use_linear_in_transformer`).
  const projection = (name: string, dim: number) =>
    admChannels === undefined ? conv(name, dim, dim, 1) : linear(name, dim, dim);
  const transformer = (name: string, dim: number, depth: number) => [
    ...norm(`${name}.norm`, dim),
    ...projection(`${name}.proj_in`, dim),
    ...Array.from({ length: depth }, (_, i) => `${name}.transformer_blocks.${i}`).flatMap((block) => [
      ...attention(`${block}.attn1`, dim, dim),
      ...linear(`${block}.ff.net.0.proj`, dim, dim * 8),
      ...linear(`${block}.ff.net.2`, dim * 4, dim),
      ...attention(`${block}.attn2`, dim, contextDim),
      ...[1, 2, 3].flatMap((i) => norm(`${block}.norm${i}`, dim)),
    ]),
    ...projection(`${name}.proj_out`, dim),
  ];

  const shapes = [
    ...linear('time_embed.0', modelChannels, embed),
    ...linear('time_embed.2', embed, embed),
    ...(admChannels === undefined
      ? []
      : [...linear('label_emb.0.0', admChannels, embed), ...linear('label_emb.0.2', embed, embed)]),
    ...conv('input_blocks.0.0', 4, modelChannels),
  ];
  const channels = [modelChannels];
  let current = modelChannels;
  for (const [level, mult] of channelMult.entries()) {
    for (let i = 0; i < resBlocks; i++) {
      const name = `input_blocks.${channels.length}`;
      shapes.push(...resBlock(`${name}.0`, current, mult * modelChannels));
      current = mult * modelChannels;
      const depth = transformerDepth[level] as number;
      if (depth > 0) shapes.push(...transformer(`${name}.1`, current, depth));
      channels.push(current);
    }
    if (level === channelMult.length - 1) continue;
    shapes.push(...conv(`input_blocks.${channels.length}.0.op`, current, current));
    channels.push(current);
  }
  shapes.push(
    ...resBlock('middle_block.0', current, current),
    ...transformer('middle_block.1', current, transformerDepth.at(-1) || 1),
    ...resBlock('middle_block.2', current, current),
  );
  let block = 0;
  for (const [level, mult] of [...channelMult.entries()].reverse())
    for (let i = 0; i <= resBlocks; i++) {
      const name = `output_blocks.${block++}`;
      let layer = 0;
      shapes.push(
        ...resBlock(`${name}.${layer++}`, current + (channels.pop() as number), mult * modelChannels),
      );
      current = mult * modelChannels;
      const depth = transformerDepth[level] as number;
      if (depth > 0) shapes.push(...transformer(`${name}.${layer++}`, current, depth));
      if (level > 0 && i === resBlocks) shapes.push(...conv(`${name}.${layer}.conv`, current, current));
    }
  shapes.push(...norm('out.0', current), ...conv('out.2', modelChannels, 4));
  return new Map(shapes);
}

/** Returns the shapes of `AutoencoderKL`, by names without the file's prefix. */
export function ldmVAE({ ch, chMult, resBlocks }: LdmSizes['vae']): Shapes {
  const resnet = (name: string, input: number, output: number) => [
    ...norm(`${name}.norm1`, input),
    ...conv(`${name}.conv1`, input, output),
    ...norm(`${name}.norm2`, output),
    ...conv(`${name}.conv2`, output, output),
    ...(input === output ? [] : conv(`${name}.nin_shortcut`, input, output, 1)),
  ];
  const mid = (name: string, channels: number) => [
    ...resnet(`${name}.block_1`, channels, channels),
    ...norm(`${name}.attn_1.norm`, channels),
    ...['q', 'k', 'v', 'proj_out'].flatMap((one) => conv(`${name}.attn_1.${one}`, channels, channels, 1)),
    ...resnet(`${name}.block_2`, channels, channels),
  ];
  const top = chMult.length - 1;
  const widest = ch * (chMult[top] as number);

  const shapes = conv('encoder.conv_in', 3, ch);
  let current = ch;
  for (const [level, mult] of chMult.entries()) {
    for (let i = 0; i < resBlocks; i++, current = ch * mult)
      shapes.push(...resnet(`encoder.down.${level}.block.${i}`, current, ch * mult));
    if (level < top) shapes.push(...conv(`encoder.down.${level}.downsample.conv`, current, current));
  }
  shapes.push(
    ...mid('encoder.mid', current),
    ...norm('encoder.norm_out', current),
    ...conv('encoder.conv_out', current, 8),
  );
  shapes.push(...conv('decoder.conv_in', 4, widest), ...mid('decoder.mid', widest));
  for (const [level, mult] of [...chMult.entries()].reverse()) {
    for (let i = 0; i <= resBlocks; i++, current = ch * mult)
      shapes.push(...resnet(`decoder.up.${level}.block.${i}`, current, ch * mult));
    if (level > 0) shapes.push(...conv(`decoder.up.${level}.upsample.conv`, current, current));
  }
  shapes.push(...norm('decoder.norm_out', current), ...conv('decoder.conv_out', current, 3));
  shapes.push(...conv('quant_conv', 8, 8, 1), ...conv('post_quant_conv', 4, 4, 1));
  return new Map(shapes);
}

/** Returns the shapes of `FrozenCLIPEmbedder`'s `transformer` (transformers 4.19); position_ids are int64. */
export function ldmText({ width, layers, vocab }: LdmSizes['text']): Shapes {
  const shapes: [string, number[]][] = [
    ['text_model.embeddings.position_ids', [1, 77]],
    ...part('text_model.embeddings.token_embedding', [vocab, width], false),
    ...part('text_model.embeddings.position_embedding', [77, width], false),
  ];
  for (let i = 0; i < layers; i++) {
    const name = `text_model.encoder.layers.${i}`;
    for (const one of ['k_proj', 'v_proj', 'q_proj', 'out_proj'])
      shapes.push(...linear(`${name}.self_attn.${one}`, width, width));
    shapes.push(...norm(`${name}.layer_norm1`, width), ...linear(`${name}.mlp.fc1`, width, width * 4));
    shapes.push(...linear(`${name}.mlp.fc2`, width * 4, width), ...norm(`${name}.layer_norm2`, width));
  }
  return new Map([...shapes, ...norm('text_model.final_layer_norm', width)]);
}

/** Returns the shapes of open_clip's text model in `FrozenOpenCLIPEmbedder2`. */
export function ldmOpenCLIP({ width, layers, vocab }: NonNullable<LdmSizes['openCLIP']>): Shapes {
  const shapes: [string, number[]][] = [
    ['positional_embedding', [77, width]],
    ['text_projection', [width, width]],
    ['logit_scale', []],
    ['token_embedding.weight', [vocab, width]],
  ];
  for (let i = 0; i < layers; i++) {
    const name = `transformer.resblocks.${i}`;
    shapes.push(
      [`${name}.attn.in_proj_weight`, [width * 3, width]],
      [`${name}.attn.in_proj_bias`, [width * 3]],
      ...linear(`${name}.attn.out_proj`, width, width),
      ...norm(`${name}.ln_1`, width),
      ...linear(`${name}.mlp.c_fc`, width, width * 4),
      ...linear(`${name}.mlp.c_proj`, width * 4, width),
      ...norm(`${name}.ln_2`, width),
    );
  }
  return new Map([...shapes, ...norm('ln_final', width)]);
}

/** Returns the names and shapes of a whole file, those of `LatentDiffusion` or generative-models' `DiffusionEngine`. */
export function ldmFile(sizes: LdmSizes): Shapes {
  const { openCLIP } = sizes;
  const schedule = [
    'betas',
    'alphas_cumprod',
    'alphas_cumprod_prev',
    'sqrt_alphas_cumprod',
    'sqrt_one_minus_alphas_cumprod',
    'log_one_minus_alphas_cumprod',
    'sqrt_recip_alphas_cumprod',
    'sqrt_recipm1_alphas_cumprod',
    'posterior_variance',
    'posterior_log_variance_clipped',
    'posterior_mean_coef1',
    'posterior_mean_coef2',
  ];
  const text = ldmText(sizes.text);
  return new Map([
    ...(openCLIP ? ['denoiser.sigmas'] : schedule).map((name) => [name, [1000]] as const),
    ...prefixed('model.diffusion_model.', ldmUNet(sizes.unet)),
    ...prefixed('first_stage_model.', ldmVAE(sizes.vae)),
    ...(openCLIP
      ? [
          ...prefixed('conditioner.embedders.0.transformer.', text),
          ...prefixed('conditioner.embedders.1.model.', ldmOpenCLIP(openCLIP)),
        ]
      : prefixed('cond_stage_model.transformer.', text)),
  ] as [string, number[]][]);
}

function prefixed<T>(prefix: string, entries: ReadonlyMap<string, T>): [string, T][] {
  return Array.from(entries, ([name, value]) => [prefix + name, value]);
}
