"""Trains our new adapters three steps in plain PyTorch. Run: python training.py WORK COMFYUI_IPADAPTER_PLUS

The projections are the modules of ComfyUI_IPAdapter_plus, which have the official keys; UNet and scheduler are diffusers'; the
rest is written out. Reads WORK/<family>/<kind>/{init,steps}.safetensors; writes trained.safetensors, with the losses.
"""
import importlib.util
import sys

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from peers import Attention, added_conditions, cases, load, load_unet, work_folder
from safetensors.torch import save_file

spec = importlib.util.spec_from_file_location("image_proj_models", f"{sys.argv[2]}/image_proj_models.py")
projections = importlib.util.module_from_spec(spec)
spec.loader.exec_module(projections)


def projection_of(kind, init):
    shape = {key.removeprefix("image_proj."): value.shape for key, value in init.items()}
    if kind == "base":
        width, features = shape["norm.weight"][0], shape["proj.weight"][1]
        tokens = shape["proj.weight"][0] // width
        made = projections.ImageProjModel(width, features, tokens)
    elif kind == "full-face":
        made = projections.MLPProjModel(shape["proj.2.weight"][0], shape["proj.0.weight"][0])
    else:
        made = projections.Resampler(
            dim=shape["latents"][2],
            depth=4,
            dim_head=64,
            heads=shape["layers.0.0.to_q.weight"][0] // 64,
            num_queries=shape["latents"][1],
            embedding_dim=shape["proj_in.weight"][1],
            output_dim=shape["proj_out.weight"][0],
        )
    made.load_state_dict({key[11:]: value for key, value in init.items() if key.startswith("image_proj.")})
    return made


def attention(q, k, v, heads):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


for family, folder in cases(work_folder()):
    init, steps = load(folder / "init.safetensors"), load(folder / "steps.safetensors")
    projection = projection_of(folder.name, init)
    layers = {key: torch.nn.Parameter(value) for key, value in init.items() if key.startswith("ip_adapter.")}
    unet = load_unet(family).requires_grad_(False)
    tokens = None
    processors = {}
    for number, name in enumerate(unet.attn_processors):
        key, value = (layers.get(f"ip_adapter.{number}.to_{letter}_ip.weight") for letter in "kv")

        def attend(q, k, v, heads, key=key, value=value):
            out = attention(q, k, v, heads)
            return out if key is None else out + attention(q, F.linear(tokens, key), F.linear(tokens, value), heads)

        processors[name] = Attention(attend)
    unet.set_attn_processor(processors)
    noises = DDPMScheduler.from_pretrained(family / "model", subfolder="scheduler")
    optimizer = torch.optim.AdamW([*projection.parameters(), *layers.values()], lr=1e-4, weight_decay=1e-2)
    losses = []
    for step in range(3):
        prefix = f"{step}."
        inputs = {key.removeprefix(prefix): value for key, value in steps.items() if key.startswith(prefix)}
        noisy = noises.add_noise(inputs["latents"], inputs["noise"], inputs["timesteps"])
        tokens = projection(inputs["features"])
        prediction = unet(noisy, inputs["timesteps"], inputs["text"], **added_conditions(inputs)).sample
        loss = F.mse_loss(prediction, inputs["noise"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    trained = {f"image_proj.{key}": value for key, value in projection.state_dict().items()}
    trained |= {key: value.detach() for key, value in layers.items()}
    trained["losses"] = torch.tensor(losses, dtype=torch.float64)
    save_file({key: value.contiguous() for key, value in trained.items()}, folder / "trained.safetensors")
