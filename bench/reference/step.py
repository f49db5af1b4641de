"""The training step of bench/full-size/step.ts in PyTorch with default settings: the computation of
tencent-ailab/IP-Adapter tutorial_train_plus.py as plain functions of state dictionaries.

    step.py MODELS INPUTS STEPS THREADS [throughput] [cached] [compile] [channels-last] [--device cuda] [--dtype bfloat16]

THREADS 0: PyTorch's default. The dtype is that of the frozen models; trained weights are float32 and run under autocast,
as with accelerate. Attention is fused where PyTorch has it, as in current transformers and diffusers. With `throughput` the
steps are timed together.
"""
import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F

from resampler import layer_norm, linear, resample
from unet import UNet, read_safetensors

BEGIN = time.perf_counter()
parser = argparse.ArgumentParser()
for name in ("models", "inputs", "steps", "threads"):
    parser.add_argument(name)
parser.add_argument("modes", nargs="*")
parser.add_argument("--device", default="cpu")
parser.add_argument("--dtype", default="float32")
args = parser.parse_args()
models, device, dtype, steps = args.models, args.device, getattr(torch, args.dtype), int(args.steps)
# Warm-up steps with `throughput`.
WARM_UP = 3
if int(args.threads) > 0:
    torch.set_num_threads(int(args.threads))
is_fused = hasattr(F, "scaled_dot_product_attention")
is_channels_last = "channels-last" in args.modes


def clip_layers(weights, prefix, x, count, heads, activation, mask=None):
    for i in range(count):
        name = f"{prefix}.layers.{i}"
        normed = layer_norm(weights, name + ".layer_norm1", x)
        split = lambda part: linear(weights, f"{name}.self_attn.{part}_proj", normed).reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
        q, k, v = split("q"), split("k"), split("v")
        if is_fused:
            out = F.scaled_dot_product_attention(q, k, v, mask)
        else:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            if mask is not None:
                scores = scores + mask
            out = scores.softmax(-1) @ v
        x = x + linear(weights, name + ".self_attn.out_proj", out.transpose(1, 2).flatten(2))
        x = x + linear(weights, name + ".mlp.fc2", activation(linear(weights, name + ".mlp.fc1", layer_norm(weights, name + ".layer_norm2", x))))
    return x


def text_states(weights, ids):
    prefix = "text_model."
    x = weights[prefix + "embeddings.token_embedding.weight"][ids] + weights[prefix + "embeddings.position_embedding.weight"]
    mask = torch.full((77, 77), float("-inf"), dtype=x.dtype, device=device).triu(1)
    x = clip_layers(weights, prefix + "encoder", x, 12, 12, lambda y: y * torch.sigmoid(1.702 * y), mask)
    return layer_norm(weights, prefix + "final_layer_norm", x)


def image_features(weights, pixels):
    """hidden_states[-2]. Like the original it also runs the last layer, whose result is not used."""
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
    if is_fused:
        h = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
    else:
        h = ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1) @ v
    x = x + linear(weights, name + ".to_out.0", h).transpose(1, 2).reshape(x.shape)
    x = resnet("encoder.mid_block.resnets.1", x)
    x = conv("encoder.conv_out", F.silu(norm("encoder.conv_norm_out", x)))
    return conv("quant_conv", x, padding=0).chunk(2, 1)


def layout(tensor):
    """Convolutions keep the layout of their weights and input."""
    is_image = is_channels_last and tensor.dim() == 4
    return tensor.contiguous(memory_format=torch.channels_last) if is_image else tensor


def load(folder, file):
    return {key: layout(tensor.to(device, dtype)) for key, tensor in read_safetensors(f"{models}/{folder}/{file}").items()}


diffusers = "diffusion_pytorch_model.safetensors"
adapter = {key: tensor.to(device).requires_grad_(True) for key, tensor in read_safetensors(models + "/ip_adapter.safetensors").items()}
part = lambda prefix: {key[len(prefix) :]: tensor for key, tensor in adapter.items() if key.startswith(prefix)}
projection = part("image_proj.")
with open(models + "/model/unet/config.json") as file:
    unet = UNet(json.load(file), load("model/unet", diffusers), part("ip_adapter."))
if "compile" in args.modes:
    unet = torch.compile(unet.__call__)
is_cached = "cached" in args.modes
if not is_cached:
    vae, text, vision = load("model/vae", diffusers), load("model/text_encoder", "model.safetensors"), load("image_encoder", "model.safetensors")
optimizer = torch.optim.AdamW(adapter.values(), lr=1e-4, weight_decay=1e-2, **({"fused": True} if device == "cuda" else {}))
inputs = {key: tensor.to(device) for key, tensor in read_safetensors(args.inputs).items()}
for key in ("pixels", "clip_pixels", "text", "image"):
    inputs[key] = inputs[key].to(dtype)
betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
alphas = torch.cumprod(1 - betas, 0).to(device)

start_up = time.perf_counter() - BEGIN


@torch.no_grad()
def encode(timed):
    def latents():
        mean, logvar = vae_moments(vae, layout(inputs["pixels"]))
        return (mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * inputs["sample"]) * 0.18215

    return (
        timed("VAE", latents),
        timed("image encoder", lambda: image_features(vision, inputs["clip_pixels"])),
        timed("text encoder", lambda: text_states(text, inputs["input_ids"].long())),
    )


def step(timed):
    """Returns the loss, on the device. `timed` runs each phase."""
    latents, features, states = (inputs["latents"], inputs["image"], inputs["text"]) if is_cached else encode(timed)
    noise, timesteps = inputs["noise"], inputs["timesteps"].long()

    def forward():
        alpha = alphas[timesteps].reshape(-1, 1, 1, 1)
        noisy = layout(alpha.sqrt() * latents + (1 - alpha).sqrt() * noise)
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            context = torch.cat([states, resample(projection, features)], 1)
            prediction = unet(noisy, timesteps, context)
        return F.mse_loss(prediction.float(), noise)

    loss = timed("UNet forward", forward)
    timed("backward", loss.backward)

    def update():
        optimizer.step()
        optimizer.zero_grad()

    timed("AdamW", update)
    return loss.detach()


def measure_phases():
    result = {"startUp": start_up, "losses": [], "steps": [], "flop": {}, "products": [], "peakInUse": 0, "rss": []}
    for _ in range(steps):
        seconds = {}

        def timed(phase, run):
            begin = time.perf_counter()
            value = run()
            seconds[phase] = time.perf_counter() - begin
            return value

        loss = step(timed)
        result["steps"].append(seconds)
        result["losses"].append(loss.item())
        with open("/proc/self/status") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        result["rss"].append(resident * 1024)
    result["peakRss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def measure_throughput():
    def synchronize():
        if device == "cuda":
            torch.cuda.synchronize()

    run = lambda: step(lambda phase, work: work())
    losses = [run() for _ in range(WARM_UP)]
    synchronize()
    begin = time.perf_counter()
    losses += [run() for _ in range(steps)]
    synchronize()
    seconds = (time.perf_counter() - begin) / steps
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {"seconds": seconds, "losses": [loss.item() for loss in losses], "peakBytes": peak}


print(json.dumps(measure_throughput() if "throughput" in args.modes else measure_phases()))
