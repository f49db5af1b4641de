"""Writes what transformers' DINO, DINOv2 and SigLIP make of pixels: test/golden/vision_encoders.

    python tools/golden/vision_encoders.py test/golden/vision_encoders

For each tiny model: its folder as `save_pretrained` writes it, and `io.safetensors` with pixels, hidden states and the
pooled output. `preprocess.safetensors` holds an image, and the pixel values that each model's image processor makes of it.
Made with transformers 5.24.0 and torch 2.13.0. vision_encoder_keys.py writes the names and shapes of published models.
"""
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

out = Path(sys.argv[1])
torch.manual_seed(0)
small = dict(hidden_size=16, num_attention_heads=2, num_hidden_layers=3)
IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
DINOV2 = BitImageProcessor(
    do_resize=True, size={"shortest_edge": 32}, resample=3, do_center_crop=True, crop_size={"height": 28, "width": 28},
    do_convert_rgb=True, **IMAGENET,
)  # fmt: skip
cases = {
    "vit": (
        ViTModel(ViTConfig(**small, intermediate_size=32, image_size=32, patch_size=8)),
        ViTImageProcessor(size={"height": 32, "width": 32}, resample=2, **IMAGENET),
    ),
    # Trained with 42 × 42 pixels, used with 28 × 28: the position embeddings are resampled.
    "dinov2": (Dinov2Model(Dinov2Config(**small, image_size=42, patch_size=7)), DINOV2),
    "dinov2_swiglu": (
        Dinov2Model(Dinov2Config(**small, image_size=28, patch_size=7, use_swiglu_ffn=True)),
        DINOV2,
    ),
    "dinov2_registers": (
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**small, image_size=42, patch_size=7)),
        DINOV2,
    ),
    "siglip": (
        SiglipVisionModel(SiglipVisionConfig(**small, intermediate_size=32, image_size=32, patch_size=8)),
        SiglipImageProcessor(size={"height": 32, "width": 32}),
    ),
}

picture = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
preprocessed = {"image": torch.from_numpy(picture)}
for name, (model, processor) in cases.items():
    folder = out / name
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    preprocessed[name] = processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
    pixels = torch.cat([preprocessed[name], torch.randn_like(preprocessed[name])])
    with torch.no_grad():
        result = model(pixel_values=pixels, output_hidden_states=True)
        # DINO's own class token, not the head that ViTModel adds for classifiers.
        pooled = result.last_hidden_state[:, 0] if name == "vit" else result.pooler_output
    states = result.hidden_states
    save_file(
        {
            "pixel_values": pixels,
            "hidden_states.0": states[0].contiguous(),
            "hidden_states.-2": states[-2].contiguous(),
            "pooled": pooled.contiguous(),
        },
        folder / "io.safetensors",
    )
save_file({key: value.contiguous() for key, value in preprocessed.items()}, out / "preprocess.safetensors")
