"""Saves tiny models with today's diffusers and transformers, and their outputs.

Run: python models.py TOKENIZER WORK

TOKENIZER is a folder with vocab.json and merges.txt. Written are, for the families sd15 and sdxl,
    WORK/<family>/model           a pipeline's folder, of save_pretrained
    WORK/<family>/inpainting      the same with a UNet that also takes a mask
    WORK/<family>/control-{0,1}   ControlNets of that UNet
    WORK/<family>/image_encoder   a CLIP vision model and its image processor
    WORK/<family>/io.safetensors  inputs and outputs of every model
and WORK/data, images with captions. The weights are random. Blocks and the width of cross-attention are those of the published
models, since ComfyUI_IPAdapter_plus takes them for granted; channels are few.
"""
import json
import sys
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

tokenizer_folder, work = sys.argv[1], Path(sys.argv[2])
prompts = ["a red circle on a blue square", ""]
betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def tokenizer():
    return CLIPTokenizer.from_pretrained(tokenizer_folder, model_max_length=77)


def text_config(width, **sizes):
    words = tokenizer()
    ids = dict(bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    layer = dict(hidden_size=width, intermediate_size=64, num_attention_heads=width // 64, num_hidden_layers=2)
    return CLIPTextConfig(**layer, vocab_size=len(words), max_position_embeddings=77, **ids, **sizes)


def vae(scaling_factor):
    model = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=scaling_factor,
    )
    # Contrast as of a trained one: a grey image would hide differences.
    with torch.no_grad():
        model.decoder.conv_out.weight *= 0.5 / model.decode(torch.randn(1, 4, 8, 8) / scaling_factor).sample.std()
    return model


def sd15():
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 16, 32, 32),
        norm_num_groups=8,
        cross_attention_dim=768,
        attention_head_dim=2,
    )
    return StableDiffusionPipeline(
        unet=unet,
        vae=vae(0.18215),
        text_encoder=CLIPTextModel(text_config(768)),
        tokenizer=tokenizer(),
        scheduler=PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl():
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        norm_num_groups=8,
        cross_attention_dim=2048,
        attention_head_dim=[2, 2, 4],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=48 + 6 * 8,
    )
    return StableDiffusionXLPipeline(
        unet=unet,
        vae=vae(0.13025),
        text_encoder=CLIPTextModel(text_config(768)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(1280, projection_dim=48)),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        scheduler=EulerDiscreteScheduler(**betas, steps_offset=1, timestep_spacing="leading"),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def image_encoder():
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, image_size=56, patch_size=14, projection_dim=24))


def save_controlnets(unet, folder):
    """Copies of the UNet's first half, as at the start of training, but with random instead of zero convolutions."""
    for i in range(2):
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
        last = [*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out]
        for module in last:
            torch.nn.init.normal_(module.weight, std=0.1)
        net.save_pretrained(folder / f"control-{i}")


def save_inpainting(pipe, folder):
    """The pipeline with five more channels in front of the UNet."""
    unet = UNet2DConditionModel.from_config(pipe.unet.config, in_channels=9)
    weights = pipe.unet.state_dict()
    more = torch.randn(*weights["conv_in.weight"].shape[:1], 5, 3, 3) * 0.1
    weights["conv_in.weight"] = torch.cat([weights["conv_in.weight"], more], 1)
    unet.load_state_dict(weights)
    pipe.save_pretrained(folder / "inpainting")
    unet.save_pretrained(folder / "inpainting" / "unet")


def outputs(pipe, encoder):
    """Inputs and outputs of every model of a pipeline, by flat names."""
    io = {}
    words = [pipe.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt") for text in prompts]
    ids = io["input_ids"] = torch.cat([word.input_ids for word in words])
    added = {}
    if hasattr(pipe, "text_encoder_2"):
        first = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
        second = pipe.text_encoder_2(ids, output_hidden_states=True)
        io["text"] = torch.cat([first, second.hidden_states[-2]], -1)
        io["pooled"] = second.text_embeds
        io["time_ids"] = torch.tensor([[64.0, 64, 0, 0, 64, 64], [1365, 768, 3, 17, 64, 64]])
        added = dict(added_cond_kwargs=dict(text_embeds=io["pooled"], time_ids=io["time_ids"]))
    else:
        io["text"] = pipe.text_encoder(ids).last_hidden_state
    io["noisy"] = torch.randn(2, 4, 8, 8)
    io["timesteps"] = torch.tensor([3, 781])
    io["prediction"] = pipe.unet(io["noisy"], io["timesteps"], io["text"], **added).sample
    io["image"] = torch.rand(1, 3, 64, 64) * 2 - 1
    io["mean"] = pipe.vae.encode(io["image"]).latent_dist.mean
    io["latents"] = torch.randn(1, 4, 8, 8)
    io["decoded"] = pipe.vae.decode(io["latents"]).sample
    io["pixel_values"] = torch.randn(2, 3, 56, 56)
    seen = encoder(io["pixel_values"], output_hidden_states=True)
    io["tokens"], io["embeds"] = seen.hidden_states[-2], seen.image_embeds
    return {key: value.contiguous() for key, value in io.items()}


def images(folder):
    folder.mkdir()
    rows = []
    for i in range(4):
        corners = torch.rand(1, 3, 3, 4)
        pixels = torch.nn.functional.interpolate(corners, (72, 80), mode="bilinear")[0].permute(1, 2, 0)
        Image.fromarray((pixels * 255).to(torch.uint8).numpy()).save(folder / f"{i}.png")
        rows.append({"image_file": f"{i}.png", "text": prompts[0]})
    (folder / "data.json").write_text(json.dumps(rows))


with torch.no_grad():
    for name, build in (("sd15", sd15), ("sdxl", sdxl)):
        torch.manual_seed(0)
        folder = work / name
        pipe, encoder = build(), image_encoder().eval()
        pipe.save_pretrained(folder / "model")
        save_inpainting(pipe, folder)
        save_controlnets(pipe.unet, folder)
        encoder.save_pretrained(folder / "image_encoder")
        processor = CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
        processor.save_pretrained(folder / "image_encoder")
        save_file(outputs(pipe, encoder), folder / "io.safetensors")
    images(work / "data")
