/** @file The config.json of IP-Adapter's published image encoder, CLIP ViT-H/14 (h94/IP-Adapter `models/image_encoder`). */

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
