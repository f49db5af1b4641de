"""Writes the names and shapes of the tensors in the files of DINO, DINOv2 and SigLIP, at their published sizes, without weights.

    python tools/golden/vision_encoder_keys.py test/golden/vision_encoders/full_size.json.gz

The tensors are those that `save_pretrained` writes, and the sizes those of each model's published config.json. Made with transformers 5.24.0 and torch 2.13.0.
"""
import gzip
import json
import sys

import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)
from transformers.core_model_loading import revert_weight_conversion

vit_s = dict(hidden_size=384, num_attention_heads=6, num_hidden_layers=12)
published = {
    "facebook/dino-vits16": (ViTModel, ViTConfig(**vit_s, intermediate_size=1536, patch_size=16)),
    "facebook/dinov2-small": (Dinov2Model, Dinov2Config(**vit_s, image_size=518, patch_size=14)),
    "facebook/dinov2-giant": (
        Dinov2Model,
        Dinov2Config(
            hidden_size=1536, num_attention_heads=24, num_hidden_layers=40, image_size=518, patch_size=14,
            use_swiglu_ffn=True,
        ),  # fmt: skip
    ),
    "facebook/dinov2-with-registers-small": (
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig(**vit_s, image_size=518, patch_size=14),
    ),
    "facebook/dinov2-with-registers-base": (
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig(
            hidden_size=768, num_attention_heads=12, num_hidden_layers=12, image_size=518, patch_size=14
        ),
    ),
    "google/siglip-so400m-patch14-384": (
        SiglipVisionModel,
        SiglipVisionConfig(
            hidden_size=1152, intermediate_size=4304, num_attention_heads=16, num_hidden_layers=27, image_size=384,
            patch_size=14,
        ),  # fmt: skip
    ),
}
full = {}
for name, (model_class, config) in published.items():
    with torch.device("meta"):
        model = model_class(config)
    # The model's own names are not those of its files since transformers 5; `save_pretrained` turns them back like this.
    tensors = revert_weight_conversion(model, model.state_dict())
    full[name] = {
        "config": json.loads(config.to_json_string()),
        "shapes": {key: list(tensor.shape) for key, tensor in tensors.items()},
    }
with gzip.GzipFile(sys.argv[1], "wb", mtime=0) as file:
    file.write(json.dumps(full, sort_keys=True).encode())
