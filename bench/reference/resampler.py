"""The Resampler of IP-Adapter Plus as a plain function over a state dictionary."""
import torch
import torch.nn.functional as F


def layer_norm(weights, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"])


def linear(weights, name, x):
    return F.linear(x, weights[name + ".weight"], weights.get(name + ".bias"))


def resample(weights, features):
    """Image features → image tokens."""
    x = linear(weights, "proj_in", features)
    latents = weights["latents"].expand(features.shape[0], -1, -1)
    split = lambda t: t.reshape(t.shape[0], t.shape[1], -1, 64).transpose(1, 2)
    for i in range(4):
        name = f"layers.{i}.0"
        normed = layer_norm(weights, name + ".norm2", latents)
        q = split(linear(weights, name + ".to_q", normed))
        k, v = map(split, linear(weights, name + ".to_kv", torch.cat([layer_norm(weights, name + ".norm1", x), normed], 1)).chunk(2, -1))
        scale = q.shape[-1] ** -0.25
        out = ((q * scale) @ (k * scale).transpose(-1, -2)).softmax(-1) @ v
        latents = latents + linear(weights, name + ".to_out", out.transpose(1, 2).flatten(2))
        name = f"layers.{i}.1"
        latents = latents + linear(weights, name + ".3", F.gelu(linear(weights, name + ".1", layer_norm(weights, name + ".0", latents))))
    return layer_norm(weights, "norm_out", linear(weights, "proj_out", latents))
