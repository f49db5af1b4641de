"""Saves checkpoints as the original's training does, with real accelerate, for src/adapters/training-checkpoint.test.ts.

Run, with a checkout of tencent-ailab/IP-Adapter at ORIGINAL:
    python tools/golden/accelerate_checkpoints.py ORIGINAL test/golden/accelerate
    torchrun --nproc-per-node 2 tools/golden/accelerate_checkpoints.py ORIGINAL test/golden/accelerate

Alone it writes both forms of a tiny SD 1.5 UNet (`sd15`) and the default form of a tiny SDXL one (`sdxl`); in two processes,
where accelerate wraps the model so that keys begin with `module.`, the default form of the first (`sd15_ddp`). Beside each
folder are the adapter's own tensors, with the keys that the original's README makes of them. Written with accelerate 1.15.0, diffusers 0.42.1 and torch 2.13.0 (CPU).
"""
import sys
import types
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import save as accelerate_save
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

original, out = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(original))
# The package's own __init__ imports pipelines that today's diffusers no longer has.
sys.modules["ip_adapter"] = types.ModuleType("ip_adapter")
sys.modules["ip_adapter"].__path__ = [str(original / "ip_adapter")]
# The training script imports it for its dataset, which is not used here.
sys.modules["torchvision"] = types.SimpleNamespace(transforms=None)
from ip_adapter.attention_processor import AttnProcessor2_0, IPAttnProcessor2_0  # noqa: E402
from ip_adapter.resampler import Resampler  # noqa: E402
from tutorial_train_plus import IPAdapter  # noqa: E402

common = dict(sample_size=8, layers_per_block=1, norm_num_groups=2, cross_attention_dim=6)
unets = {
    "sd15": dict(
        **common,
        block_out_channels=(4,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        attention_head_dim=2,
    ),
    "sdxl": dict(
        **common,
        block_out_channels=(4, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2],
        attention_head_dim=2,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=2,
        projection_class_embeddings_input_dim=16,
    ),
}


def adapter_of(unet):
    """As the main() of tutorial_train_plus.py puts it together; the weights are random."""
    processors = {}
    for name in unet.attn_processors.keys():
        if name.endswith("attn1.processor"):
            processors[name] = AttnProcessor2_0()
        else:
            processors[name] = IPAttnProcessor2_0(hidden_size=4, cross_attention_dim=6, num_tokens=3)
    unet.set_attn_processor(processors)
    modules = torch.nn.ModuleList(unet.attn_processors.values())
    sizes = dict(dim=6, depth=1, dim_head=4, heads=1, num_queries=3, embedding_dim=5, output_dim=6, ff_mult=1)
    unet.requires_grad_(False)
    modules.requires_grad_(True)
    return IPAdapter(unet, Resampler(**sizes), modules)


def save(name, config, forms):
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    adapter = adapter_of(UNet2DConditionModel(**config))
    optimizer = torch.optim.AdamW(adapter.image_proj_model.parameters())
    model, optimizer = accelerator.prepare(adapter, optimizer)
    folder = out / name
    for form in forms:
        accelerator.save_state(str(folder), safe_serialization=form == "safetensors")
    if accelerator.num_processes > 1:
        # save_state of the accelerate that the original was written for saved the wrapped model; today's unwraps it.
        wrapped = accelerator.get_state_dict(model, unwrap=False)
        accelerate_save(wrapped, folder / "model.safetensors", safe_serialization=True)
    if not accelerator.is_main_process:
        return
    for path in folder.iterdir():
        # The optimizer and the random state are not the adapter's.
        if path.name not in ("model.safetensors", "pytorch_model.bin"):
            path.unlink()
    tensors = {f"image_proj.{key}": value for key, value in adapter.image_proj_model.state_dict().items()}
    tensors |= {f"ip_adapter.{key}": value for key, value in adapter.adapter_modules.state_dict().items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, out / f"{name}.adapter.safetensors")


if Accelerator(cpu=True).num_processes > 1:
    save("sd15_ddp", unets["sd15"], ["safetensors"])
else:
    save("sd15", unets["sd15"], ["safetensors", "bin"])
    save("sdxl", unets["sdxl"], ["safetensors"])
