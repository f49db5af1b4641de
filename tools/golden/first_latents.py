"""Records the first latents of diffusers' pipelines as hashes. Run: python first_latents.py test/golden/first_latents.json

Needs torch and diffusers (2.13 and 0.42.1 for the recorded file). Every seed has a CPU generator of its own. The latents are
multiplied by the sampler's init_noise_sigma in their own dtype, as the pipelines do.
"""
import hashlib
import json
import sys
from types import SimpleNamespace

import diffusers
import torch

betas = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000)
samplers = [
    ("PNDMScheduler", dict(steps_offset=1, skip_prk_steps=True)),
    ("DDIMScheduler", dict(steps_offset=1)),
    ("EulerDiscreteScheduler", dict(steps_offset=1, timestep_spacing="leading")),
    ("EulerDiscreteScheduler", dict(timestep_spacing="trailing", use_karras_sigmas=True)),
    ("EulerAncestralDiscreteScheduler", dict(steps_offset=1, timestep_spacing="leading")),
    ("DPMSolverMultistepScheduler", dict(steps_offset=1)),
]
cases = []
for pipeline, side in [("StableDiffusionPipeline", 512), ("StableDiffusionXLPipeline", 1024)]:
    for name, extra in samplers:
        config = {"_class_name": name, **betas, **extra}
        for seeds, steps, dtype in [([0], 30, "float32"), ([5, 6, 7], 20, "float32"), ([2**40], 25, "float16")]:
            if dtype == "float16" and not name.startswith("PNDM"):
                continue
            scheduler = getattr(diffusers, name).from_config(config)
            scheduler.set_timesteps(steps)
            latents = getattr(diffusers, pipeline).prepare_latents(
                SimpleNamespace(vae_scale_factor=8, scheduler=scheduler),
                batch_size=len(seeds),
                num_channels_latents=4,
                height=side,
                width=side,
                dtype=getattr(torch, dtype),
                device=torch.device("cpu"),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            )
            digest = hashlib.sha256(latents.numpy().tobytes()).hexdigest()
            cases.append(dict(pipeline=pipeline, side=side, scheduler=config, seeds=seeds, steps=steps, dtype=dtype, sha256=digest))
with open(sys.argv[1], "w") as file:
    json.dump(dict(torch=torch.__version__, diffusers=diffusers.__version__, cases=cases), file, indent=1)
