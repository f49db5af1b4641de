/** @file The published configs of Stable Diffusion XL 1.0, which a single file does not contain. */
import { sd15 } from './sd15.js';

export const sdxl = {
  unet: {
    ...sd15.unet,
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 256,
    attention_head_dim: [5, 10, 20],
    block_out_channels: [320, 640, 1280],
    cross_attention_dim: 2048,
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
    projection_class_embeddings_input_dim: 2816,
    sample_size: 128,
    transformer_layers_per_block: [1, 2, 10],
    up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
    use_linear_projection: true,
  },
  vae: { ...sd15.vae, force_upcast: true, sample_size: 1024, scaling_factor: 0.13025 },
  textEncoder: sd15.textEncoder,
  textEncoder2: {
    eos_token_id: 2,
    hidden_act: 'gelu',
    hidden_size: 1280,
    intermediate_size: 5120,
    layer_norm_eps: 1e-5,
    max_position_embeddings: 77,
    num_attention_heads: 20,
    num_hidden_layers: 32,
    projection_dim: 1280,
    vocab_size: 49408,
  },
};
