"""Runs the peers' own code for references: ComfyUI_IPAdapter_plus's and diffusers'. Run: python references.py WORK COMFYUI_IPADAPTER_PLUS

Reads WORK/references.json, the variants, and WORK/<family>/<kind>/references.safetensors, the inputs of one call of the UNet. For
each variant it writes WORK/<family>/<kind>/<variant>.<peer>.png, an image that diffusers' pipeline draws, and for ComfyUI
<variant>.comfyui.safetensors: what its attention adds at every site in that one call, by the layers' names.
"""
import json

import torch
from comfyui_code import (
    IPAdapterNoise,
    IPAdapterPlus,
    Model,
    attention,
    ipadapter_attention,
    ipadapter_execute,
    ipadapter_model_loader,
    options_for,
    patches_of,
    sigma_at,
)
from diffusers import DiffusionPipeline
from diffusers.image_processor import IPAdapterMaskProcessor
from peers import Attention, added_conditions, load, work_folder
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

work = work_folder()
request = json.loads((work / "references.json").read_text())
files = request["files"]
size = dict(width=request["width"], height=request["height"])


def images_of(names):
    return [Image.open(files[name]).convert("RGB") for name in names]


def mask_of(name):
    return torch.frombuffer(bytearray(Image.open(files[name]).convert("L").tobytes()), dtype=torch.uint8)


class Features:
    """What ComfyUI's encode_image_masked returns."""

    def __init__(self, encoder, pixels):
        seen = encoder(pixels, output_hidden_states=True)
        self.penultimate_hidden_states = seen.hidden_states[-2]
        self.image_embeds = seen.image_embeds


def comfyui_arguments(variant, features, null):
    """The arguments of ipadapter_execute for one of our settings."""
    names = {"ease-in-out": "ease in-out", "reverse-in-out": "reverse in-out", "style": "style transfer"}
    scalings = {
        "v-only": "V only",
        "k+v": "K+V",
        "k+v-c-penalty": "K+V w/ C penalty",
        "k+mean-v-c-penalty": "K+mean(V) w/ C penalty",
    }
    kind = variant.get("weightType", "linear")
    scale = variant.get("scale", 1.0)
    # A list in place of an image: encode_image_masked below takes it.
    arguments = dict(
        weight=scale,
        weight_type=names.get(kind, kind.replace("-", " ")),
        weight_composition=variant.get("compositionScale", scale),
        combine_embeds=variant.get("combine", "concat").replace("-", " "),
        embeds_scaling=scalings[variant.get("embedsScaling", "v-only")],
        start_at=variant.get("range", [0, 1])[0],
        end_at=variant.get("range", [0, 1])[1],
    )
    if kind == "style-transfer-precise":
        arguments["style_boost"] = variant.get("compositionScale")
    if kind == "composition-precise":
        arguments["composition_boost"] = variant.get("styleScale")
    if "blockScales" in variant:
        arguments["layer_weights"] = ",".join(f"{key}:{value}" for key, value in variant["blockScales"].items())
    if "masks" in variant:
        (name,) = variant["masks"]
        width, height = Image.open(files[name]).size
        arguments["attn_mask"] = mask_of(name).view(1, height, width) / 255
    weights = variant.get("weights", [1] * len(variant["images"]))
    shown = features(images_of(variant["images"]))
    for name in ("penultimate_hidden_states", "image_embeds"):
        values = getattr(shown, name)
        factors = torch.tensor(weights).view(-1, *[1] * (values.ndim - 1))
        setattr(shown, name, torch.cat([value[None] if weight == 1 else value[None] * factor for value, weight, factor in zip(values, weights, factors)]))
    encoded = [shown]
    if "compositionImages" in variant:
        encoded.append(features(images_of(variant["compositionImages"])))
        arguments["image_composition"] = torch.ones(1, 1, 1, 3)
    negative = null
    if "negativeImage" in variant:
        negative = features(images_of([variant["negativeImage"]]))
        arguments["image_negative"] = torch.ones(1, 1, 1, 3)
    elif "negativeNoise" in variant:
        noise, *_ = IPAdapterNoise().make_noise(variant["negativeNoise"], variant["noiseStrength"], 0)
        # As comfy.clip_vision.clip_preprocess rounds.
        pixels = (255 * noise[0]).clip(0, 255).round().to(torch.uint8).numpy()
        negative = features([Image.fromarray(pixels)])
        arguments["image_negative"] = torch.ones(1, 1, 1, 3)
    elif variant.get("nullImage") == "black":
        negative = features([Image.new("RGB", (56, 56))])
    encoded.append(negative)
    answers = iter(encoded)
    IPAdapterPlus.encode_image_masked = lambda *_, **__: next(answers)
    return dict(arguments, image=torch.ones(1, 1, 1, 3))


@torch.inference_mode()
def run_comfyui(pipe, folder, variant, features, null):
    arguments = comfyui_arguments(variant, features, null)
    model, _ = ipadapter_execute(
        Model(), ipadapter_model_loader(str(folder / "adapter.safetensors")), clipvision=None, **arguments
    )
    unet = pipe.unet
    ours = load(folder / "references.safetensors")
    layers = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    patches = patches_of(model)
    assert len(layers) == len(patches), (len(layers), len(patches))
    state = dict(timestep=int(ours["timestep"]), latents=ours["noisy"].shape, added={})
    processors = {name: Attention(attention) for name in unet.attn_processors}
    for layer, (key, transformer, patch) in zip(layers, patches):

        def attend(q, k, v, heads, patch=patch, key=key, transformer=transformer, layer=layer):
            sigma = sigma_at(state["timestep"])
            options = options_for(key, transformer, heads, state["latents"], sigma)
            out = attention(q, k, v, heads)
            (kwargs,) = patch.kwargs
            if not kwargs["sigma_end"] <= sigma <= kwargs["sigma_start"]:
                return out
            added = ipadapter_attention(out, q, k, v, options, **kwargs)
            if torch.is_tensor(added):
                state["added"].setdefault(layer.removesuffix(".processor"), added)
            return out + added

        processors[layer] = Attention(attend)
    unet.set_attn_processor(processors)
    unet(ours["noisy"], ours["timestep"], ours["text"], **added_conditions(ours))
    added = {name: value.contiguous() for name, value in state["added"].items()}
    save_file(added, folder / f"{variant['name']}.comfyui.safetensors")

    def set_timestep(_, args, kwargs):
        state["timestep"], state["latents"] = float(args[1]), args[0].shape

    hook = unet.register_forward_pre_hook(set_timestep, with_kwargs=True)
    draw(pipe).save(folder / f"{variant['name']}.comfyui.png")
    hook.remove()


@torch.inference_mode()
def run_diffusers(pipe, folder, variant):
    pipe.load_ip_adapter(folder, subfolder="", weight_name="adapter.safetensors", image_encoder_folder=None)
    scale = variant.get("scale", 1.0)
    pipe.set_ip_adapter_scale(variant.get("blockScales", scale))
    images = dict(ip_adapter_image=[images_of(variant["images"])])
    if "masks" in variant:
        masks = IPAdapterMaskProcessor().preprocess(images_of(variant["masks"]), **size)
        pipe.set_ip_adapter_scale([[scale * weight for weight in variant.get("weights", [1] * len(masks))]])
        images["cross_attention_kwargs"] = {"ip_adapter_masks": [masks.reshape(1, *masks.shape[:1], *masks.shape[2:])]}
    if variant.get("embeds"):
        embeds = pipe.prepare_ip_adapter_image_embeds(images["ip_adapter_image"], None, torch.device("cpu"), 1, True)
        torch.save(embeds, folder / f"{variant['name']}.ipadpt")
        torch.save(embeds[0][1], folder / f"{variant['name']}-comfyui.ipadpt")
        read = torch.load(folder / "written.ipadpt")
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(read, embeds, strict=True))
        images = dict(ip_adapter_image_embeds=read)
    draw(pipe, **images).save(folder / f"{variant['name']}.diffusers.png")
    pipe.unload_ip_adapter()


def draw(pipe, **images):
    return pipe(
        request["prompt"],
        negative_prompt=request["negativePrompt"],
        num_inference_steps=request["steps"],
        guidance_scale=request["guidanceScale"],
        generator=torch.Generator("cpu").manual_seed(request["seed"]),
        **size,
        **images,
    ).images[0]


for case in request["cases"]:
    family, folder = work / case["family"], work / case["family"] / case["kind"]
    encoder = CLIPVisionModelWithProjection.from_pretrained(family / "image_encoder")
    processor = CLIPImageProcessor.from_pretrained(family / "image_encoder")

    def features(images):
        with torch.inference_mode():
            return Features(encoder, processor(images, return_tensors="pt").pixel_values)

    with torch.inference_mode():
        null = Features(encoder, torch.zeros(1, 3, 56, 56))
    for variant in case["variants"]:
        pipe = DiffusionPipeline.from_pretrained(
            family / "model", image_encoder=encoder, feature_extractor=processor
        )
        pipe.set_progress_bar_config(disable=True)
        if variant["peer"] == "comfyui":
            run_comfyui(pipe, folder, variant, features, null)
        else:
            run_diffusers(pipe, folder, variant)
