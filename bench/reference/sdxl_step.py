"""The training step of bench/sdxl.ts in PyTorch: diffusers' UNet with gradient checkpointing, encodings random and of the
same shapes, the adapter of a checkpoint. Prints JSON: seconds of each step, and the peak memory of the process.

    sdxl_step.py MODELS CHECKPOINT STEPS
"""
import json
import resource
import sys
import time

from diffusers import UNet2DConditionModel
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from resampler import resample

models, checkpoint, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
unet = UNet2DConditionModel.from_pretrained(f"{models}/model/unet", torch_dtype=torch.float32)
unet.requires_grad_(False)
unet.enable_gradient_checkpointing()
unet.train()
weights = {key: torch.nn.Parameter(value) for key, value in load_file(f"{checkpoint}/ip_adapter.safetensors").items()}
projection = {key.removeprefix("image_proj."): value for key, value in weights.items() if key.startswith("image_proj.")}
optimizer = torch.optim.AdamW(weights.values(), lr=1e-4, weight_decay=0.01)


class Decoupled:
    """Attention to the text and, beside it, to the last 16 tokens."""

    def __init__(self, number):
        self.k, self.v = (weights.get(f"ip_adapter.{number}.to_{name}_ip.weight") for name in "kv")

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        split = lambda x: x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        query = split(attn.to_q(hidden_states))
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if self.k is not None:
            context, image = context[:, :-16], context[:, -16:]
        out = F.scaled_dot_product_attention(query, split(attn.to_k(context)), split(attn.to_v(context)))
        if self.k is not None:
            key, value = split(F.linear(image, self.k)), split(F.linear(image, self.v))
            out = out + F.scaled_dot_product_attention(query, key, value)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


unet.set_attn_processor({name: Decoupled(i) for i, name in enumerate(unet.attn_processors)})
seconds = []
for _ in range(steps):
    begin = time.perf_counter()
    latents, noise = torch.randn(2, 1, 4, 32, 32)
    tokens = resample(projection, torch.randn(1, 257, 1280))
    context = torch.cat([torch.randn(1, 77, 2048), tokens], 1)
    added = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.tensor([[256.0, 256, 0, 0, 256, 256]])}
    noisy = 0.7 * latents + 0.7 * noise
    prediction = unet(noisy, torch.tensor([500]), context, added_cond_kwargs=added).sample
    F.mse_loss(prediction, noise).backward()
    optimizer.step()
    optimizer.zero_grad()
    seconds.append(time.perf_counter() - begin)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"seconds": seconds, "peak_gib": peak}))
