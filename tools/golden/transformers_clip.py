"""Saves tiny models of every CLIP class with transformers, and their outputs, for src/weights/transformers.test.ts.

Run: python tools/golden/transformers_clip.py test/golden/transformers5
Written with transformers 5.24.0 and torch (CPU).
"""
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

out = Path(sys.argv[1])
torch.manual_seed(0)
layer = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, projection_dim=12)
text = dict(**layer, vocab_size=60, max_position_embeddings=20, eos_token_id=59, bos_token_id=58, pad_token_id=59)
vision = dict(**layer, image_size=28, patch_size=14)
ids = torch.randint(0, 58, (2, 20))
ids[:, 0] = 58
ids[0, 7:] = 59
ids[1, 12:] = 59
pixels = torch.randn(2, 3, 28, 28)


def save(name, model, outputs, **options):
    model.save_pretrained(out / name, **options)
    save_file({key: value.detach().float().contiguous() for key, value in outputs.items()}, out / f"{name}.io.safetensors")


def of_text(result):
    return {"lastHiddenState": result.last_hidden_state}


with torch.no_grad():
    for name, model, options in [
        ("text", CLIPTextModel(CLIPTextConfig(**text)), {}),
        ("text_shards", CLIPTextModel(CLIPTextConfig(**text)), {"max_shard_size": "6KB"}),
        ("text_bfloat16", CLIPTextModel(CLIPTextConfig(**text)).to(torch.bfloat16), {}),
    ]:
        # In float32, as the test computes; the weights are exact in it.
        model = model.eval()
        result = CLIPTextModel(model.config).eval()
        result.load_state_dict({key: value.float() for key, value in model.state_dict().items()})
        result = result(ids)
        save(name, model, {**of_text(result), "poolerOutput": result.pooler_output}, **options)

    model = CLIPTextModelWithProjection(CLIPTextConfig(**text)).eval()
    result = model(ids)
    save("text_with_projection", model, {**of_text(result), "embeds": result.text_embeds})

    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)).eval()
    result = model(pixels, output_hidden_states=True)
    save("vision_with_projection", model, {"hidden": result.hidden_states[-2], "imageEmbeds": result.image_embeds})

    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    states = model.vision_model(pixels, output_hidden_states=True)
    result = model.text_model(ids)
    save(
        "whole",
        model,
        {
            **of_text(result),
            "embeds": model.text_projection(result.pooler_output),
            "hidden": states.hidden_states[-2],
            "imageEmbeds": model.visual_projection(states.pooler_output),
        },
    )
save_file({"input_ids": ids, "pixel_values": pixels}, out / "inputs.safetensors")
