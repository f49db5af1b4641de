"""Merges LoRAs with diffusers and PEFT. Run: python lora.py WORK

Reads the tiny models of WORK/<family>/model (models.py). For each format that LoRA files come in, writes

    WORK/<family>/lora/<case>/lora.safetensors   the file, random, in that format
    WORK/<family>/lora/<case>/fused.safetensors  the weights that it changes after load_lora_weights and fuse_lora, named
                                                 <part>.<key>

and WORK/<family>/lora/cases.json, [{"case", "scale"}]. LyCORIS' third matrix is not read by diffusers: its case is merged as the
layers are defined, one convolution after another.
"""
import json

import torch
from diffusers import DiffusionPipeline
from peers import work_folder
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file

SCALE = 0.7
parts = ("unet", "text_encoder", "text_encoder_2")


def open_pipe(family):
    return DiffusionPipeline.from_pretrained(family / "model")


def modules(pipe):
    return {part: getattr(pipe, part) for part in parts if getattr(pipe, part, None) is not None}


def layers(model, patterns):
    """The linear layers and convolutions whose names have one of the patterns."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds) and any(part in name for part in patterns)}


def matrices(layer, rank):
    if isinstance(layer, torch.nn.Conv2d):
        inner, outer = layer.in_channels, layer.out_channels
        down, up = torch.randn(rank, inner, *layer.kernel_size), torch.randn(outer, rank, 1, 1)
    else:
        down, up = torch.randn(rank, layer.in_features), torch.randn(layer.out_features, rank)
    return down * 0.1, up * 0.1


attention = ("to_q", "to_k", "to_v", "to_out.0")
text_layers = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
every_layer = (*attention, "proj_in", "proj_out", "ff.net", "conv", "time_emb_proj")


def hugging_text(name):
    """Text layers as files name them; transformers 5 leaves the first part out."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def old_ldm_name(name, unet):
    """A UNet's layer in the names of the original code, as sd-scripts write SDXL."""
    per_level = unet.config.layers_per_block + 1
    for ours, theirs in (
        ("conv_in", "input_blocks.0.0"), ("conv_out", "out.2"),
        ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2"),
    ):
        if name == ours:
            return theirs
    words = name.split(".")
    inner = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
    side, rest = words[0], words[1:]
    if side == "mid_block":
        kind, number, tail = rest[0], int(rest[1]), rest[2:]
        place = 1 if kind == "attentions" else 2 * number
        return ".".join(["middle_block", str(place), *[inner.get(word, word) for word in tail]])
    level, kind, number, tail = int(rest[0]), rest[1], int(rest[2]), rest[3:]
    if kind == "downsamplers":
        return f"input_blocks.{level * per_level + per_level}.0.op"
    if kind == "upsamplers":
        has_attention = "CrossAttn" in unet.config.up_block_types[level]
        return f"output_blocks.{(level + 1) * per_level - 1}.{2 if has_attention else 1}.conv"
    block = level * per_level + number + (1 if side == "down_blocks" else 0)
    start = "input_blocks" if side == "down_blocks" else "output_blocks"
    place = "1" if kind == "attentions" else "0"
    return ".".join([start, str(block), place, *[inner.get(word, word) for word in tail]])


def kohya(pipe, is_ldm=False, with_text=True, unet_layers=every_layer):
    tensors = {}
    for part, model in modules(pipe).items():
        is_unet = part == "unet"
        if not is_unet and not with_text:
            continue
        for number, (name, layer) in enumerate(layers(model, unet_layers if is_unet else text_layers).items()):
            if is_unet:
                base = "lora_unet_" + (old_ldm_name(name, model) if is_ldm else name).replace(".", "_")
            else:
                prefix = {"text_encoder": "lora_te1_" if is_ldm else "lora_te_", "text_encoder_2": "lora_te2_"}[part]
                base = prefix + hugging_text(name).replace(".", "_")
            rank = 2 + number % 2
            tensors[base + ".lora_down.weight"], tensors[base + ".lora_up.weight"] = matrices(layer, rank)
            # One for all layers: of others, diffusers 0.42 loses those of attention on the way to PEFT.
            tensors[base + ".alpha"] = torch.tensor(1.5)
    return tensors


def dotted(pipe, unet_form, text_form, unet_layers):
    """Names with dots: each form makes the two keys of a layer's name."""
    tensors = {}
    for part, model in modules(pipe).items():
        form = unet_form if part == "unet" else text_form
        for name, layer in layers(model, unet_layers if part == "unet" else text_layers).items():
            keys = form(name if part == "unet" else hugging_text(name))
            for key, tensor in zip(keys, matrices(layer, 2)):
                tensors[f"{part}.{key}"] = tensor
    return tensors


def peft_form(name):
    return f"{name}.lora_A.weight", f"{name}.lora_B.weight"


def diffusers_form(name):
    return f"{name}.lora.down.weight", f"{name}.lora.up.weight"


def text_diffusers_form(name):
    return f"{name}.lora_linear_layer.down.weight", f"{name}.lora_linear_layer.up.weight"


def processor_form(name):
    """attn1.to_q -> attn1.processor.to_q_lora"""
    place, layer = name.replace("to_out.0", "to_out").rsplit(".", 1)
    return f"{place}.processor.{layer}_lora.down.weight", f"{place}.processor.{layer}_lora.up.weight"


def text_processor_form(name):
    old = {"q_proj": "to_q_lora", "k_proj": "to_k_lora", "v_proj": "to_v_lora", "out_proj": "to_out_lora"}
    place, layer = name.rsplit(".", 1)
    return tuple(f"{place}.{old[layer]}.{side}.weight" if layer in old else f"{name}.lora_linear_layer.{side}.weight" for side in ("down", "up"))


def save_changed(pipe, before, file):
    changed = {}
    for part, model in modules(pipe).items():
        for key, value in model.state_dict().items():
            if not torch.equal(value, before[part][key]):
                name = hugging_text(key) if part == "text_encoder" else key
                changed[f"{part}.{name}"] = value.contiguous()
    assert changed, "nothing was fused"
    save_file(changed, file)


def weights(pipe):
    return {part: {key: value.clone() for key, value in model.state_dict().items()} for part, model in modules(pipe).items()}


def fuse(family, folder, before):
    pipe = open_pipe(family)
    pipe.load_lora_weights(folder, weight_name="lora.safetensors")
    pipe.fuse_lora(components=list(modules(pipe)), lora_scale=SCALE)
    pipe.unload_lora_weights()
    save_changed(pipe, before, folder / "fused.safetensors")


def saved_by_diffusers(family, folder):
    """A file of save_lora_weights, whose alphas are in the metadata."""
    pipe = open_pipe(family)
    words = {}
    for part, model in modules(pipe).items():
        is_unet = part == "unet"
        config = LoraConfig(
            r=2,
            lora_alpha=3,
            alpha_pattern={"attn2.to_k": 5} if is_unet else {},
            target_modules=list(attention if is_unet else text_layers),
            init_lora_weights=False,
        )
        inject_adapter_in_model(config, model)
        described = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
        words[f"{part}_lora_layers"] = get_peft_model_state_dict(model, adapter_name="default")
        words[f"{part}_lora_adapter_metadata"] = described
    type(pipe).save_lora_weights(folder, weight_name="lora.safetensors", **words)


def peft_adapter(family, folder, before):
    """A folder of PEFT's own save_pretrained, of the UNet alone."""
    pipe = open_pipe(family)
    config = LoraConfig(r=2, lora_alpha=6, use_rslora=True, alpha_pattern={"attn2.to_k": 1}, target_modules=["to_k", "to_v", "conv1"], init_lora_weights=False)
    model = get_peft_model(pipe.unet, config)
    model.save_pretrained(folder)
    for value in model.base_model.modules():
        if hasattr(value, "scaling"):
            value.scaling = {name: scale * SCALE for name, scale in value.scaling.items()}
    pipe.unet = model.merge_and_unload()
    (folder / "adapter_model.safetensors").rename(folder / "lora.safetensors")
    save_changed(pipe, before, folder / "fused.safetensors")


def locon_with_mid(family, folder, before):
    """LyCORIS with the third matrix: the three convolutions, applied to every unit image, are the difference."""
    pipe = open_pipe(family)
    tensors = {}
    for name, layer in layers(pipe.unet, ("conv1", "conv2")).items():
        if layer.kernel_size != (3, 3):
            continue
        rank, alpha = 3, 2.0
        down = torch.randn(rank, layer.in_channels, 1, 1) * 0.2
        mid = torch.randn(rank, rank, 3, 3) * 0.2
        up = torch.randn(layer.out_channels, rank, 1, 1) * 0.2
        base = "lora_unet_" + name.replace(".", "_")
        for key, tensor in (("lora_down.weight", down), ("lora_mid.weight", mid), ("lora_up.weight", up)):
            tensors[f"{base}.{key}"] = tensor
        tensors[f"{base}.alpha"] = torch.tensor(alpha)
        # A convolution with a kernel's worth of unit images gives its weight, flipped.
        units = torch.eye(layer.in_channels)[:, :, None, None] * torch.nn.functional.pad(torch.ones(1, 1, 1, 1), (2, 2, 2, 2))
        convolve = torch.nn.functional.conv2d
        made = convolve(convolve(convolve(units, down), mid), up).flip(-1, -2).transpose(0, 1)
        layer.weight.data += SCALE * alpha / rank * made
    save_file(tensors, folder / "lora.safetensors")
    save_changed(pipe, before, folder / "fused.safetensors")


def cases(family):
    is_xl = family.name == "sdxl"
    pipe = open_pipe(family)
    kinds = {
        "kohya": lambda: kohya(pipe, with_text=True),
        "lcm": lambda: kohya(pipe, with_text=False),
        "diffusers": lambda: dotted(pipe, diffusers_form, text_diffusers_form, (*attention, "proj_in", "ff.net")),
        "peft-keys": lambda: dotted(pipe, peft_form, peft_form, every_layer),
        "processors": lambda: dotted(pipe, processor_form, text_processor_form, attention),
    }
    if is_xl:
        kinds["kohya-ldm"] = lambda: kohya(pipe, is_ldm=True, unet_layers=(*every_layer, "time_embedding", "add_embedding"))
    return kinds


with torch.no_grad():
    for family in (work_folder() / name for name in ("sd15", "sdxl")):
        torch.manual_seed(1)
        before = weights(open_pipe(family))
        done = []

        def folder_of(case):
            folder = family / "lora" / case
            folder.mkdir(parents=True)
            done.append(dict(case=case, scale=SCALE))
            return folder

        for case, make in cases(family).items():
            folder = folder_of(case)
            save_file({key: value.contiguous() for key, value in make().items()}, folder / "lora.safetensors")
            fuse(family, folder, before)
        folder = folder_of("saved-by-diffusers")
        saved_by_diffusers(family, folder)
        fuse(family, folder, before)
        peft_adapter(family, folder_of("peft"), before)
        locon_with_mid(family, folder_of("locon-mid"), before)
        (family / "lora" / "cases.json").write_text(json.dumps(done))
