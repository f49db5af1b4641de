"""The code of ComfyUI_IPAdapter_plus, whose folder is the second argument of the script that imports this.

ComfyUI itself is replaced by the few functions that the code imports of it.
"""
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

def module(name, **content):
    sys.modules[name] = made = ModuleType(name)
    made.__dict__.update(content)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, made)


def attention(q, k, v, heads):
    # By the batch of the queries, as ComfyUI's attention_pytorch: keys of several images join into one sequence.
    batch = q.shape[0]
    q, k, v = (x.reshape(batch, -1, heads, x.shape[-1] // heads).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


cpu = torch.device("cpu")
module("torchvision")
module("torchvision.transforms")
module("torchvision.transforms.v2")
module("folder_paths", folder_names_and_paths={}, models_dir=".", supported_pt_extensions=[], get_filename_list=list)
module("node_helpers", conditioning_set_values=None)
module("comfy")
module(
    "comfy.model_management",
    get_torch_device=lambda: cpu,
    intermediate_device=lambda: cpu,
    unet_dtype=lambda: torch.float32,
)
module("comfy.clip_vision", load=None, clip_preprocess=None, Output=None)
module("comfy.sd", load_lora_for_models=None)
module("comfy.utils", load_torch_file=lambda file, safe_load: load_file(file))
module("comfy.ldm")
module("comfy.ldm.modules")
module("comfy.ldm.modules.attention", optimized_attention=attention)
spec = importlib.util.spec_from_file_location(
    "comfyui_ipadapter_plus", f"{sys.argv[2]}/__init__.py", submodule_search_locations=[sys.argv[2]]
)
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
from comfyui_ipadapter_plus import IPAdapterPlus  # noqa: E402
from comfyui_ipadapter_plus.CrossAttentionPatch import ipadapter_attention  # noqa: E402, F401
from comfyui_ipadapter_plus.IPAdapterPlus import (  # noqa: E402, F401
    IPAdapterNoise,
    ipadapter_execute,
    ipadapter_model_loader,
)

# Other packages look whether it is installed.
for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2"):
    del sys.modules[name]


def sigma_of(share):
    """ComfyUI's percent_to_sigma (comfy/model_sampling.py, ModelSamplingDiscrete) with the betas of Stable Diffusion."""
    if share <= 0:
        return 999999999.9
    if share >= 1:
        return 0.0
    return sigma_at((1 - share) * 999)


def sigma_at(timestep):
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    products = torch.cumprod(1 - betas, 0)
    logs = ((1 - products) / products).sqrt().log()
    below = min(int(timestep), 998)
    return torch.lerp(logs[below], logs[below + 1], timestep - below).exp().item()


class Model:
    """What ipadapter_execute asks of ComfyUI's model."""

    def __init__(self):
        self.model_options = {"transformer_options": {}}

    def get_model_object(self, name):
        return SimpleNamespace(percent_to_sigma=sigma_of)


def patches_of(model):
    """ComfyUI's patches in the order of diffusers' layers (down, up, mid), each with the number of its transformer."""
    patches = model.model_options["transformer_options"]["patches_replace"]["attn2"]
    executed = ["input", "middle", "output"]
    transformers = sorted({key[:2] for key in patches}, key=lambda key: (executed.index(key[0]), key[1]))
    layers = ["input", "output", "middle"]
    in_order = sorted(patches.items(), key=lambda patch: (layers.index(patch[0][0]), *patch[0][1:]))
    return [(key, transformers.index(key[:2]), patch) for key, patch in in_order]


def options_for(key, transformer, heads, latents, sigma):
    """ComfyUI's extra_options of an attention call whose first half are the unconditional rows."""
    return {
        "n_heads": heads,
        "sigmas": torch.full([1], sigma, dtype=torch.float64),
        "cond_or_uncond": [1, 0],
        "block": key[:2],
        "transformer_index": transformer,
        "original_shape": latents,
    }
