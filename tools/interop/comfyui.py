"""Runs ComfyUI_IPAdapter_plus's own code with our adapters. Run: python comfyui.py WORK COMFYUI_IPADAPTER_PLUS

Its loader reads our file, `ipadapter_execute` finds out the kind, makes the image tokens and patches the attention layers by
ComfyUI's numbers, and its attention runs in a UNet of diffusers with the same layers. ComfyUI itself is replaced by the few
functions that the code imports of it. Reads WORK/<family>/<kind>/{adapter,ours}.safetensors; writes comfyui.safetensors,
with `refused` alone where the code cannot load the adapter.
"""
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F
from peers import Attention, added_conditions, cases, load, load_unet, work_folder
from safetensors.torch import load_file, save_file


def module(name, **content):
    sys.modules[name] = made = ModuleType(name)
    made.__dict__.update(content)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, made)


def attention(q, k, v, heads):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
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
from comfyui_ipadapter_plus.IPAdapterPlus import ipadapter_execute, ipadapter_model_loader  # noqa: E402


class Model:
    """What ipadapter_execute asks of ComfyUI's model."""

    def __init__(self):
        self.model_options = {"transformer_options": {}}

    def get_model_object(self, name):
        return SimpleNamespace(percent_to_sigma=lambda share: 1e9 if share == 0 else 0.0)


def in_order(patches):
    """ComfyUI's patches in the order of diffusers' layers: down, up, mid."""
    blocks = ["input", "output", "middle"]
    return sorted(patches.items(), key=lambda patch: (blocks.index(patch[0][0]), *patch[0][1:]))


for family, folder in cases(work_folder()):
    ours = load(folder / "ours.safetensors")
    with torch.inference_mode():
        try:
            model, _ = ipadapter_execute(
                Model(),
                ipadapter_model_loader(str(folder / "adapter.safetensors")),
                clipvision=None,
                pos_embed=ours["features"],
                # Its default for Plus is a black image before normalisation; training drops images after it.
                neg_embed=ours["null_features"],
                weight=float(ours["scale"]),
            )
        except RuntimeError as error:
            # A load_state_dict that does not fit.
            print(f"{family.name} {folder.name}: {error}".splitlines()[0])
            save_file({"refused": torch.ones(1)}, folder / "comfyui.safetensors")
            continue
        patches = in_order(model.model_options["transformer_options"]["patches_replace"]["attn2"])
        unet = load_unet(family)
        layers = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
        assert len(layers) == len(patches), (len(layers), len(patches))
        processors = {name: Attention(attention) for name in unet.attn_processors}
        for layer, ((kind, number, *_), patch) in zip(layers, patches):

            def attend(q, k, v, heads, patch=patch, block=(kind, number)):
                options = {
                    "n_heads": heads,
                    "sigmas": torch.ones(1),
                    # The first row is the unconditional one.
                    "cond_or_uncond": [1, 0],
                    "block": block,
                    "transformer_index": 0,
                    "original_shape": ours["noisy"].shape,
                }
                return patch(q, k, v, options)

            processors[layer] = Attention(attend)
        unet.set_attn_processor(processors)
        prediction = unet(ours["noisy"], ours["timestep"], ours["text"], **added_conditions(ours)).sample
    kwargs = patches[0][1].kwargs[0]
    results = {"tokens": kwargs["cond"], "null_tokens": kwargs["uncond"], "prediction": prediction}
    save_file({key: value.clone() for key, value in results.items()}, folder / "comfyui.safetensors")
