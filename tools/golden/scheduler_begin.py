"""Writes walks of diffusers' schedulers that begin late, from an image with noise, and keep a part of it, as its pipelines for
image-to-image and inpainting let them.

    VENV/bin/python tools/golden/scheduler_begin.py test/golden/schedulers_begin

VENV, the model and `draws` are those of scheduler_walks.py. `walks.safetensors` holds `image`, `noise` and `mask` (1 where the
walk is free), `draws`, and `samples` [walks, *latents]: the mean of a walk's latents after every call, the last ones before the
image is put in again.
`index.json.gz` has, for several walks in a row, class, options, and pairs of the number of steps and those left out.
"""

import gzip
import json
import sys
import warnings
from pathlib import Path

import diffusers
import numpy as np
import torch
from safetensors.torch import save_file
from scheduler_walks import BASE, BY_TIMESTEPS, K_DIFFUSION, SOLVERS, record_draws

SHAPE = (1, 1, 2, 2)
WALKS = [(4, 1), (6, 2), (6, 5), (16, 0), (16, 3), (16, 11)]


def cases():
    for name in BY_TIMESTEPS + K_DIFFUSION + SOLVERS:
        for spacing in ["leading", "linspace", "trailing"]:
            yield name, dict(timestep_spacing=spacing)
        yield name, dict(prediction_type="v_prediction")
        if name not in BY_TIMESTEPS:
            yield name, dict(use_karras_sigmas=True)
    for order in [1, 3]:
        for name in SOLVERS:
            yield name, dict(solver_order=order)
    for algorithm in ["dpmsolver++", "sde-dpmsolver++"]:
        yield "DPMSolverSinglestep", dict(solver_order=3, solver_type="heun", algorithm_type=algorithm)
        yield "DPMSolverMultistep", dict(solver_order=3, algorithm_type=algorithm)


def walk(name, config, steps, left_out, image, noise, mask):
    scheduler = getattr(diffusers, f"{name}Scheduler").from_config(dict(config))
    scheduler.set_timesteps(steps)
    begin = left_out * scheduler.order
    timesteps = scheduler.timesteps[begin:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    x = scheduler.add_noise(image, noise, timesteps[:1])
    seen = []
    for i, t in enumerate(timesteps):
        scaled = scheduler.scale_model_input(x, t)
        time = float(t)
        output = 0.35 * scaled + 0.2 * torch.sin(1.7 * scaled + 0.003 * time) + 0.05 * np.cos(time / 200)
        # LMS takes its order from the place in the schedule, also where it has not seen so many slopes; k-diffusion from those.
        extra = dict(order=min(i + 1, 4)) if name == "LMSDiscrete" else {}
        x = scheduler.step(output, t, x, return_dict=False, **extra)[0]
        if i + 1 < len(timesteps):
            kept = scheduler.add_noise(image, noise, timesteps[i + 1 : i + 2])
            x = (1 - mask) * kept + mask * x
        seen.append(x)
    return torch.stack(seen).mean(0).float()


def main(folder: Path) -> None:
    generator = torch.Generator().manual_seed(4)
    image, noise = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    mask = torch.tensor([1.0, 0, 1, 0]).reshape(SHAPE)
    draws = torch.randn(32, *SHAPE, generator=generator)
    state = record_draws(draws)
    index, samples = [], []
    for name, options in cases():
        finite = []
        for steps, left_out in WALKS:
            state["drawn"] = 0
            sample = walk(name, {**BASE, **options}, steps, left_out, image, noise, mask)
            if sample.isfinite().all():
                finite.append([steps, left_out])
                samples.append(sample)
        index.append([f"{name}Scheduler", options, finite])
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(image=image, noise=noise, mask=mask, draws=draws, samples=torch.stack(samples))
    save_file(tensors, folder / "walks.safetensors")
    text = json.dumps(dict(diffusers=diffusers.__version__, config=BASE, index=index))
    (folder / "index.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    print(len(samples), "walks")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
