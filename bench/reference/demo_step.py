"""The step of bench/demo-step.ts in PyTorch. Prints seconds per step for each JSON line on stdin."""
import json
import sys
import time

import torch
import torch.nn.functional as F

from resampler import resample
from unet import UNet, read_safetensors

threads, folder, adapter_file, inputs_file = sys.argv[1:]
torch.set_num_threads(int(threads))

adapter = read_safetensors(adapter_file)
for parameter in adapter.values():
    parameter.requires_grad_(True)
part = lambda prefix: {key[len(prefix) :]: tensor for key, tensor in adapter.items() if key.startswith(prefix)}
projection = part("image_proj.")
with open(folder + "/config.json") as file:
    unet = UNet(json.load(file), read_safetensors(folder + "/diffusion_pytorch_model.safetensors"), part("ip_adapter."))
optimizer = torch.optim.AdamW(adapter.values(), lr=1e-4, weight_decay=1e-2)
inputs = read_safetensors(inputs_file)
latents, noise, timesteps = inputs["latents"], inputs["noise"], inputs["timesteps"].long()
betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
alpha = torch.cumprod(1 - betas, 0)[timesteps].reshape(-1, 1, 1, 1)


def step():
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    context = torch.cat([inputs["text"], resample(projection, inputs["image"])], 1)
    F.mse_loss(unet(noisy, timesteps, context), velocity).backward()
    optimizer.step()
    optimizer.zero_grad()


for line in sys.stdin:
    request = json.loads(line)
    begin = time.perf_counter()
    for _ in range(request["count"]):
        step()
    print((time.perf_counter() - begin) / request["count"], flush=True)
