"""The UNet calls of bench/generate.ts in PyTorch. Prints seconds per call for each JSON line on stdin."""
import json
import sys
import time

import torch

from unet import UNet, read_safetensors

threads, demo_folder, description = sys.argv[1:]
torch.set_num_threads(int(threads))
torch.set_grad_enabled(False)

with open(demo_folder + "/config.json") as file:
    demo = UNet(json.load(file), read_safetensors(demo_folder + "/diffusion_pytorch_model.safetensors"))
with open(description) as file:
    described = json.load(file)
weights = {}
for key, shape in described["shapes"].items():
    bound = 1 / max(1, torch.Size(shape[1:]).numel()) ** 0.5
    weights[key] = torch.empty(shape).uniform_(-bound, bound) if len(shape) > 1 else torch.ones(shape)
full = UNet(described["config"], weights)

timestep = torch.tensor([500])
inputs = {
    "demo UNet": (demo, torch.randn(64, 4, 8, 8), torch.randn(64, 32, 128)),
    "SD 1.5 UNet": (full, torch.randn(1, 4, 64, 64), torch.randn(1, 77, 768)),
}

for line in sys.stdin:
    request = json.loads(line)
    unet, sample, context = inputs[request["name"]]
    begin = time.perf_counter()
    for _ in range(request["count"]):
        unet(sample, timestep, context)
    print((time.perf_counter() - begin) / request["count"], flush=True)
