"""Writes what diffusers' `clip_skip=1` makes of prompts: test/golden/clip_skip.safetensors.

    python tools/golden/clip_skip.py <folder of a tiny SDXL> <folder of an SD 1.x text encoder>

Made with diffusers 0.42.1, transformers 5.24.0 and torch 2.13.0 from ../shared/golden/sdxl_base_models and
demo/models/text_encoder.
"""
import json
import sys
from pathlib import Path

from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file
import torch
from transformers import CLIPTextModel

sdxl, sd = (Path(argument) for argument in sys.argv[1:3])
pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl, feature_extractor=None, image_encoder=None)
with torch.no_grad():
    text, _, pooled, _ = pipeline.encode_prompt(
        "a small cat", device="cpu", do_classifier_free_guidance=False, clip_skip=1
    )
    config = json.loads((sd / "config.json").read_text())
    padding = [config["pad_token_id"]] * (config["max_position_embeddings"] - 4)
    ids = torch.tensor([[config["bos_token_id"], 5, 7, config["eos_token_id"], *padding]])
    model = CLIPTextModel.from_pretrained(sd).float()
    # As StableDiffusionPipeline.encode_prompt: the state before the last layer, normalised.
    state = model(ids, output_hidden_states=True).hidden_states[-2]
    transformer = model.text_model if hasattr(model, "text_model") else model
    states = transformer.final_layer_norm(state)
out = Path(__file__).parents[2] / "test/golden/clip_skip.safetensors"
tensors = {"sdxl.text": text, "sdxl.pooled": pooled, "sd.input_ids": ids, "sd.text": states}
save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, out)
