"""Runs ComfyUI_IPAdapter_plus's own code with our adapters. Run: python comfyui.py WORK COMFYUI_IPADAPTER_PLUS

Its loader reads our file, `ipadapter_execute` finds out the kind, makes the image tokens and patches the attention layers by
ComfyUI's numbers, and its attention runs in a UNet of diffusers with the same layers (comfyui_code.py). Reads
WORK/<family>/<kind>/{adapter,ours}.safetensors; writes comfyui.safetensors, with `refused` alone where the code cannot load the
adapter.
"""
import torch
from comfyui_code import (
    Model,
    attention,
    ipadapter_execute,
    ipadapter_model_loader,
    options_for,
    patches_of,
)
from peers import Attention, added_conditions, cases, load, load_unet, work_folder
from safetensors.torch import save_file

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
        patches = patches_of(model)
        unet = load_unet(family)
        layers = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
        assert len(layers) == len(patches), (len(layers), len(patches))
        processors = {name: Attention(attention) for name in unet.attn_processors}
        for layer, (key, transformer, patch) in zip(layers, patches):

            def attend(q, k, v, heads, patch=patch, key=key, transformer=transformer):
                return patch(q, k, v, options_for(key, transformer, heads, ours["noisy"].shape, 1))

            processors[layer] = Attention(attend)
        unet.set_attn_processor(processors)
        prediction = unet(ours["noisy"], ours["timestep"], ours["text"], **added_conditions(ours)).sample
    kwargs = patches[0][2].kwargs[0]
    results = {"tokens": kwargs["cond"], "null_tokens": kwargs["uncond"], "prediction": prediction}
    save_file({key: value.clone() for key, value in results.items()}, folder / "comfyui.safetensors")
