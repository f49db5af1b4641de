"""The step of bench/demo-step.ts, by several processes under DistributedDataParallel on Gloo. Prints seconds per step."""
import json
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F

from resampler import resample
from unet import UNet, read_safetensors

folder, adapter_file, inputs_file, steps, warm_up = sys.argv[1:]
torch.set_num_threads(1)
dist.init_process_group("gloo")


class Step(torch.nn.Module):
    def __init__(self):
        super().__init__()
        adapter = {key: torch.nn.Parameter(tensor) for key, tensor in read_safetensors(adapter_file).items()}
        self.trained = torch.nn.ParameterList(adapter.values())
        part = lambda prefix: {key[len(prefix) :]: one for key, one in adapter.items() if key.startswith(prefix)}
        self.projection = part("image_proj.")
        with open(folder + "/config.json") as file:
            weights = read_safetensors(folder + "/diffusion_pytorch_model.safetensors")
            self.unet = UNet(json.load(file), weights, part("ip_adapter."))

    def forward(self, latents, noise, timesteps, text, image):
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        context = torch.cat([text, resample(self.projection, image)], 1)
        return F.mse_loss(self.unet(noisy, timesteps, context), velocity)


inputs = read_safetensors(inputs_file)
inputs["timesteps"] = inputs["timesteps"].long()
betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
alpha = torch.cumprod(1 - betas, 0)[inputs["timesteps"]].reshape(-1, 1, 1, 1)
model = Step()
if dist.get_world_size() > 1:
    model = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-2)


def step():
    model(*(inputs[name] for name in ("latents", "noise", "timesteps", "text", "image"))).backward()
    optimizer.step()
    optimizer.zero_grad()


for _ in range(int(warm_up)):
    step()
begin = time.perf_counter()
for _ in range(int(steps)):
    step()
print((time.perf_counter() - begin) / int(steps))
