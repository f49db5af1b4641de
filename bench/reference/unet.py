"""Stable Diffusion's UNet as plain functions of a state dictionary: the same computation as diffusers'
UNet2DConditionModel with unfused attention, without diffusers."""
import json
import math
import struct

import torch
import torch.nn.functional as F

try:
    from safetensors.torch import load_file
except ImportError:
    load_file = None

TYPES = {"F32": torch.float32, "F16": torch.float16, "I64": torch.int64}


def read_safetensors(path):
    """Returns the tensors of a file as float32. Those of the library safetensors map the file, as diffusers' do."""
    if load_file is not None:
        return {key: tensor.float() for key, tensor in load_file(path).items()}
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length
    return {
        key: torch.frombuffer(bytearray(data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]), dtype=TYPES[entry["dtype"]])
        .reshape(entry["shape"])
        .float()
        for key, entry in header.items()
    }


def attend(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5, dim=-1) @ v


class UNet:
    """With `adapter` ({"1.to_k_ip.weight": …}, numbered as in official files), the last 16 context states are image tokens."""

    def __init__(self, config, weights, adapter=None):
        self.config, self.weights, self.adapter = config, weights, adapter
        self.modules = {}
        # Numbered in diffusers' order of attention processors: down, up, mid, including self-attention.
        names = [key[: -len(".to_q.weight")] for key in weights if key.endswith(".to_q.weight")]
        rank = {"down_blocks": 0, "up_blocks": 1, "mid_block": 2}
        order = lambda name: [rank[part] if part in rank else int(part) if part.isdigit() else part for part in name.split(".") if part in rank or part.isdigit() or part.startswith("attn")]
        for number, name in enumerate(sorted(names, key=order)):
            self.modules[name] = number
        self.groups = config.get("norm_num_groups", 32)
        self.heads = config.get("attention_head_dim", 8)

    def linear(self, name, x):
        return F.linear(x, self.weights[name + ".weight"], self.weights.get(name + ".bias"))

    def conv(self, name, x, stride=1, padding=1):
        return F.conv2d(x, self.weights[name + ".weight"], self.weights[name + ".bias"], stride, padding)

    def group_norm(self, name, x, eps):
        return F.group_norm(x, self.groups, self.weights[name + ".weight"], self.weights[name + ".bias"], eps)

    def layer_norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"])

    def resnet(self, name, x, time):
        h = self.conv(name + ".conv1", F.silu(self.group_norm(name + ".norm1", x, 1e-5)))
        h = h + self.linear(name + ".time_emb_proj", F.silu(time))[:, :, None, None]
        h = self.conv(name + ".conv2", F.silu(self.group_norm(name + ".norm2", h, 1e-5)))
        if name + ".conv_shortcut.weight" in self.weights:
            x = self.conv(name + ".conv_shortcut", x, padding=0)
        return x + h

    def attention(self, name, x, context):
        split = lambda t: t.reshape(t.shape[0], t.shape[1], self.heads, -1).transpose(1, 2)
        q = split(self.linear(name + ".to_q", x))
        tokens = None
        if self.adapter is not None and name.endswith("attn2"):
            context, tokens = context[:, :-16], context[:, -16:]
        out = attend(q, split(self.linear(name + ".to_k", context)), split(self.linear(name + ".to_v", context)))
        if tokens is not None:
            module = self.modules[name]
            k, v = (F.linear(tokens, self.adapter[f"{module}.to_{part}_ip.weight"]) for part in "kv")
            out = out + attend(q, split(k), split(v))
        return self.linear(name + ".to_out.0", out.transpose(1, 2).flatten(2))

    def transformer(self, name, x, context):
        h = self.conv(name + ".proj_in", self.group_norm(name + ".norm", x, 1e-6), padding=0)
        batch, channels, height, width = h.shape
        h = h.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        block = name + ".transformer_blocks.0"
        normed = self.layer_norm(block + ".norm1", h)
        h = h + self.attention(block + ".attn1", normed, normed)
        h = h + self.attention(block + ".attn2", self.layer_norm(block + ".norm2", h), context)
        value, gate = self.linear(block + ".ff.net.0.proj", self.layer_norm(block + ".norm3", h)).chunk(2, dim=-1)
        h = h + self.linear(block + ".ff.net.2", value * F.gelu(gate))
        h = h.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return x + self.conv(name + ".proj_out", h, padding=0)

    def __call__(self, sample, timesteps, context):
        half = self.config["block_out_channels"][0] // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=sample.device) / half)
        angles = timesteps.float()[:, None] * frequencies[None]
        time = torch.cat([angles.cos(), angles.sin()], dim=-1).expand(sample.shape[0], -1)
        time = self.linear("time_embedding.linear_2", F.silu(self.linear("time_embedding.linear_1", time)))

        x = self.conv("conv_in", sample)
        skips = [x]
        layers, levels = self.config["layers_per_block"], len(self.config["block_out_channels"])
        for level, kind in enumerate(self.config["down_block_types"]):
            for layer in range(layers):
                x = self.resnet(f"down_blocks.{level}.resnets.{layer}", x, time)
                if kind.startswith("CrossAttn"):
                    x = self.transformer(f"down_blocks.{level}.attentions.{layer}", x, context)
                skips.append(x)
            if level < levels - 1:
                x = self.conv(f"down_blocks.{level}.downsamplers.0.conv", x, stride=2)
                skips.append(x)
        x = self.resnet("mid_block.resnets.0", x, time)
        x = self.transformer("mid_block.attentions.0", x, context)
        x = self.resnet("mid_block.resnets.1", x, time)
        for level, kind in enumerate(self.config["up_block_types"]):
            for layer in range(layers + 1):
                x = self.resnet(f"up_blocks.{level}.resnets.{layer}", torch.cat([x, skips.pop()], dim=1), time)
                if kind.startswith("CrossAttn"):
                    x = self.transformer(f"up_blocks.{level}.attentions.{layer}", x, context)
            if level < levels - 1:
                x = self.conv(f"up_blocks.{level}.upsamplers.0.conv", F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv("conv_out", F.silu(self.group_norm("conv_norm_out", x, 1e-5)))
