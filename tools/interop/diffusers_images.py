"""Draws with diffusers and our adapters what `ip-adapter generate` draws. Run: python diffusers_images.py WORK

Reads WORK/cases.json and WORK/<family>/<kind>/{adapter.safetensors,request.json}; writes diffusers.png beside them.
"""
import json

import torch
from diffusers import DiffusionPipeline
from peers import cases, work_folder
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

for family, folder in cases(work_folder()):
    request = json.loads((folder / "request.json").read_text())
    encoder = family / "image_encoder"
    pipe = DiffusionPipeline.from_pretrained(
        family / "model",
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(encoder),
        feature_extractor=CLIPImageProcessor.from_pretrained(encoder),
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.load_ip_adapter(folder, subfolder="", weight_name="adapter.safetensors", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(request["scale"])
    images = pipe(
        request["prompt"],
        negative_prompt=request["negativePrompt"],
        ip_adapter_image=Image.open(request["image"]).convert("RGB"),
        num_inference_steps=request["steps"],
        guidance_scale=request["guidanceScale"],
        guidance_rescale=request["guidanceRescale"],
        generator=torch.Generator("cpu").manual_seed(request["seed"]),
        width=64,
        height=64,
    ).images
    images[0].save(folder / "diffusers.png")
