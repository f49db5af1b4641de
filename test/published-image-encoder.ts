/**
 * @file The config.json of IP-Adapter's published image encoders: OpenCLIP ViT-H/14 and ViT-bigG/14 (h94/IP-Adapter
 * `models/image_encoder` and `sdxl_models/image_encoder`).
 */

export const vitH = {
  model_type: 'clip_vision_model',
  hidden_act: 'gelu',
  hidden_size: 1280,
  image_size: 224,
  intermediate_size: 5120,
  num_attention_heads: 16,
  num_hidden_layers: 32,
  patch_size: 14,
  projection_dim: 1024,
};

export const bigG = {
  ...vitH,
  hidden_size: 1664,
  intermediate_size: 8192,
  num_hidden_layers: 48,
  projection_dim: 1280,
};
