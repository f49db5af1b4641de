"""Draws with diffusers' pipelines for images, masks and ControlNets what our pipeline draws. Run: python diffusers_pipelines.py WORK

Reads WORK/pipelines.json, a list of requests; writes WORK/<family>/pipelines/<name>.diffusers.png.
"""
import json

import diffusers
import torch
from diffusers import ControlNetModel
from peers import work_folder
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

work = work_folder()


def pipeline_class(request):
    """StableDiffusion[XL][ControlNet][Img2Img|Inpaint]Pipeline"""
    family = "StableDiffusionXL" if request["family"] == "sdxl" else "StableDiffusion"
    control = "ControlNet" if request["controlnets"] else ""
    task = "Inpaint" if "mask" in request else "Img2Img" if "image" in request else ""
    return getattr(diffusers, f"{family}{control}{task}Pipeline")


def load(request):
    folder = work / request["family"]
    encoder = folder / "image_encoder"
    parts = dict(
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(encoder),
        feature_extractor=CLIPImageProcessor.from_pretrained(encoder),
    )
    nets = [ControlNetModel.from_pretrained(folder / f"control-{i}") for i in range(request["controlnets"])]
    if nets:
        parts["controlnet"] = nets if len(nets) > 1 else nets[0]
    if request["family"] == "sd15":
        parts["safety_checker"] = None
    pipe = pipeline_class(request).from_pretrained(folder / request["model"], **parts)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_ip_adapter(folder / "plus", subfolder="", weight_name="adapter.safetensors", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(request["scale"])
    if "scheduler" in request:
        name, options = request["scheduler"]
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **options)
    if request["tiling"]:
        pipe.vae.enable_tiling()
    return pipe


def draw(request):
    pipe = load(request)
    picture = lambda name: Image.open(work / "data" / name).convert("RGB")
    arguments = dict(request["arguments"])
    controls = [picture(name) for name in request["controls"]]
    if controls:
        name = "control_image" if "image" in request else "image"
        arguments[name] = controls if len(controls) > 1 else controls[0]
    if "image" in request:
        arguments["image"] = picture(request["image"])
    if "mask" in request:
        arguments["mask_image"] = picture(request["mask"])
    image = pipe(
        request["prompt"],
        negative_prompt=request["negativePrompt"],
        ip_adapter_image=picture("3.png"),
        num_inference_steps=request["steps"],
        guidance_scale=request["guidanceScale"],
        generator=torch.Generator("cpu").manual_seed(request["seed"]),
        **arguments,
    ).images[0]
    image.save(work / request["family"] / "pipelines" / f"{request['name']}.diffusers.png")


for request in json.loads((work / "pipelines.json").read_text()):
    draw(request)
