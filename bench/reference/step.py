"""The training step of bench/full-size/step.ts in Python's PyTorch, at its defaults: the maths of
tencent-ailab/IP-Adapter tutorial_train_plus.py as plain functions over state dictionaries.

    step.py MODELS INPUTS STEPS THREADS     (THREADS 0: as PyTorch chooses)
"""
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

from resampler import layer_norm, linear, resample
from unet import UNet, read_safetensors

BEGIN = time.perf_counter()
models, inputs_file, steps, threads = sys.argv[1:]
if int(threads) > 0:
    torch.set_num_threads(int(threads))


def clip_layers(weights, prefix, x, count, heads, activation, mask=None):
    for i in range(count):
        name = f"{prefix}.layers.{i}"
        normed = layer_norm(weights, name + ".layer_norm1", x)
        split = lambda part: linear(weights, f"{name}.self_attn.{part}_proj", normed).reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
        q, k, v = split("q"), split("k"), split("v")
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores + mask
        out = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(weights, name + ".self_attn.out_proj", out)
        x = x + linear(weights, name + ".mlp.fc2", activation(linear(weights, name + ".mlp.fc1", layer_norm(weights, name + ".layer_norm2", x))))
    return x


def text_states(weights, ids):
    prefix = "text_model."
    x = weights[prefix + "embeddings.token_embedding.weight"][ids] + weights[prefix + "embeddings.position_embedding.weight"]
    mask = torch.full((77, 77), float("-inf")).triu(1)
    x = clip_layers(weights, prefix + "encoder", x, 12, 12, lambda y: y * torch.sigmoid(1.702 * y), mask)
    return layer_norm(weights, prefix + "final_layer_norm", x)


def image_features(weights, pixels):
    """hidden_states[-2]; as the original, through the last layer, whose result is not used."""
    prefix = "vision_model."
    patches = F.conv2d(pixels, weights[prefix + "embeddings.patch_embedding.weight"], stride=14).flatten(2).transpose(1, 2)
    first = weights[prefix + "embeddings.class_embedding"].expand(pixels.shape[0], 1, -1)
    x = torch.cat([first, patches], 1) + weights[prefix + "embeddings.position_embedding.weight"]
    x = layer_norm(weights, prefix + "pre_layrnorm", x)
    penultimate = clip_layers(weights, prefix + "encoder", x, 31, 16, F.gelu)
    last = {key.replace("layers.31.", "layers.0."): tensor for key, tensor in weights.items() if "layers.31." in key}
    clip_layers(last, prefix + "encoder", penultimate, 1, 16, F.gelu)
    return penultimate


def vae_moments(weights, x):
    def conv(name, x, stride=1, padding=1):
        return F.conv2d(x, weights[name + ".weight"], weights[name + ".bias"], stride, padding)

    def norm(name, x):
        return F.group_norm(x, 32, weights[name + ".weight"], weights[name + ".bias"], 1e-6)

    def resnet(name, x):
        h = conv(name + ".conv1", F.silu(norm(name + ".norm1", x)))
        h = conv(name + ".conv2", F.silu(norm(name + ".norm2", h)))
        shortcut = name + ".conv_shortcut"
        return h + (conv(shortcut, x, padding=0) if shortcut + ".weight" in weights else x)

    x = conv("encoder.conv_in", x)
    for level in range(4):
        for layer in range(2):
            x = resnet(f"encoder.down_blocks.{level}.resnets.{layer}", x)
        if level < 3:
            x = conv(f"encoder.down_blocks.{level}.downsamplers.0.conv", F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
    x = resnet("encoder.mid_block.resnets.0", x)
    name = "encoder.mid_block.attentions.0"
    h = norm(name + ".group_norm", x).flatten(2).transpose(1, 2)
    q, k, v = (linear(weights, f"{name}.to_{part}", h) for part in "qkv")
    h = ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1) @ v
    x = x + linear(weights, name + ".to_out.0", h).transpose(1, 2).reshape(x.shape)
    x = resnet("encoder.mid_block.resnets.1", x)
    x = conv("encoder.conv_out", F.silu(norm("encoder.conv_norm_out", x)))
    return conv("quant_conv", x, padding=0).chunk(2, 1)


def load(folder, file):
    return read_safetensors(f"{models}/{folder}/{file}")


diffusers = "diffusion_pytorch_model.safetensors"
adapter = read_safetensors(models + "/ip_adapter.safetensors")
for parameter in adapter.values():
    parameter.requires_grad_(True)
part = lambda prefix: {key[len(prefix) :]: tensor for key, tensor in adapter.items() if key.startswith(prefix)}
projection = part("image_proj.")
with open(models + "/model/unet/config.json") as file:
    unet = UNet(json.load(file), load("model/unet", diffusers), part("ip_adapter."))
vae, text, vision = load("model/vae", diffusers), load("model/text_encoder", "model.safetensors"), load("image_encoder", "model.safetensors")
optimizer = torch.optim.AdamW(adapter.values(), lr=1e-4, weight_decay=1e-2)
inputs = read_safetensors(inputs_file)
betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
alphas = torch.cumprod(1 - betas, 0)

result = {"startUp": time.perf_counter() - BEGIN, "losses": [], "steps": [], "flop": {}, "peakInUse": 0, "rss": []}


def timed(seconds, phase, run):
    begin = time.perf_counter()
    value = run()
    seconds[phase] = time.perf_counter() - begin
    return value


for _ in range(int(steps)):
    seconds = {}
    with torch.no_grad():
        def encode():
            mean, logvar = vae_moments(vae, inputs["pixels"])
            return (mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * inputs["sample"]) * 0.18215

        latents = timed(seconds, "VAE", encode)
        features = timed(seconds, "image encoder", lambda: image_features(vision, inputs["clip_pixels"]))
        states = timed(seconds, "text encoder", lambda: text_states(text, inputs["input_ids"].long()))
    noise, timesteps = inputs["noise"], inputs["timesteps"].long()

    def forward():
        alpha = alphas[timesteps].reshape(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        context = torch.cat([states, resample(projection, features)], 1)
        return F.mse_loss(unet(noisy, timesteps, context), noise)

    loss = timed(seconds, "UNet forward", forward)
    timed(seconds, "backward", loss.backward)

    def update():
        optimizer.step()
        optimizer.zero_grad()

    timed(seconds, "AdamW", update)
    result["steps"].append(seconds)
    result["losses"].append(loss.item())
    with open("/proc/self/status") as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    result["rss"].append(resident * 1024)

result["peakRss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(result))
