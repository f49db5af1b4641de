"""Writes short walks of diffusers' schedulers with the options that a scheduler_config.json can have.

    python3 -m venv VENV && VENV/bin/pip install torch diffusers scipy torchsde safetensors
    VENV/bin/python tools/golden/scheduler_walks.py test/golden/schedulers_walks

The model is m = 0.35 x + 0.2 sin(1.7 x + 0.003 t) + 0.05 cos(t / 200) of the scaled input x. `walks.safetensors` holds
`initial` (times init_noise_sigma at the start), `draws` (what the scheduler draws, in the order of its calls) and
`samples` [walks, *latents], the last latents of each walk. `index.json.gz` has the class and options of several
walks in a row, and the numbers of steps that they go; walks that end in NaN are left out.
"""

import gzip
import importlib
import json
import sys
import warnings
from pathlib import Path

import diffusers
import numpy as np
import torch
from safetensors.torch import save_file

# Stable Diffusion 1.x.
BASE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
)
STEPS = [1, 3, 6, 16]
SHAPE = (1, 1, 2, 2)
BY_TIMESTEPS = ["DDIM", "DDPM", "PNDM", "LCM", "TCD", "EulerAncestralDiscrete"]
K_DIFFUSION = ["EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"]
SOLVERS = ["DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep"]
SIGMAS = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"]


def cases():
    for name in BY_TIMESTEPS + K_DIFFUSION + SOLVERS:
        for spacing in ["leading", "linspace", "trailing"]:
            yield name, dict(timestep_spacing=spacing)
        yield name, dict(prediction_type="v_prediction")
        if name != "PNDM":
            yield name, dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="leading")
        if name not in BY_TIMESTEPS:
            for sigmas in SIGMAS:
                yield name, {sigmas: True, "prediction_type": "v_prediction"}
    for order in [1, 2, 3]:
        for low in [True, False]:
            order_and_end = dict(solver_order=order, lower_order_final=low)
            yield "DEISMultistep", order_and_end
            for algorithm in ["dpmsolver++", "sde-dpmsolver++"]:
                for solver in ["midpoint", "heun"]:
                    options = dict(algorithm_type=algorithm, solver_type=solver, **order_and_end)
                    yield "DPMSolverMultistep", options
                    yield "DPMSolverMultistep", dict(final_sigmas_type="sigma_min", **options)
                    yield "DPMSolverSinglestep", options
                    yield "DPMSolverSinglestep", dict(final_sigmas_type="sigma_min", **options)
            for solver in ["bh1", "bh2"]:
                end = dict(final_sigmas_type="sigma_min", solver_type=solver)
                yield "UniPCMultistep", dict(**end, **order_and_end)
                if order < 3:  # it is NaN with a last step of no length
                    yield "UniPCMultistep", dict(use_karras_sigmas=True, **end, **order_and_end)
    continuous = dict(timestep_type="continuous", prediction_type="v_prediction")
    levels = dict(sigma_min=0.1, sigma_max=10.0)
    yield "EulerDiscrete", dict(final_sigmas_type="sigma_min")
    yield "EulerDiscrete", continuous
    yield "EulerDiscrete", dict(use_karras_sigmas=True, **continuous)
    yield "EulerDiscrete", levels
    yield "EulerDiscrete", dict(use_karras_sigmas=True, **levels)
    yield "EulerDiscrete", dict(use_exponential_sigmas=True, **levels)
    yield "HeunDiscrete", dict(clip_sample=True)
    yield "DDIM", dict(clip_sample=True, set_alpha_to_one=True)
    yield "DDPM", dict(variance_type="fixed_large", clip_sample=True, timestep_spacing="trailing")
    yield "LCM", dict(clip_sample=True, clip_sample_range=0.5, original_inference_steps=20, timestep_scaling=0.01)
    yield "TCD", dict(original_inference_steps=100)
    for schedule in ["linear", "squaredcos_cap_v2"]:
        for name in ["DDIM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"]:
            yield name, dict(beta_schedule=schedule)


def record_draws(draws: torch.Tensor) -> dict:
    """Lets the schedulers draw these, one after the other; the Brownian tree of DPMSolverSDE as well."""
    state = dict(drawn=0)

    def draw(*_, **__) -> torch.Tensor:
        state["drawn"] += 1
        return draws[state["drawn"] - 1].clone()

    for file in Path(diffusers.schedulers.__file__).parent.glob("scheduling_*.py"):
        module = importlib.import_module(f"diffusers.schedulers.{file.stem}")
        if hasattr(module, "randn_tensor"):
            module.randn_tensor = draw
        if hasattr(module, "BrownianTreeNoiseSampler"):
            module.BrownianTreeNoiseSampler = lambda *_, **__: draw
    return state


def walk(name: str, config: dict, steps: int, initial: torch.Tensor) -> torch.Tensor:
    scheduler = getattr(diffusers, f"{name}Scheduler").from_config(dict(config))
    scheduler.set_timesteps(steps)
    x = initial * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        time = float(t)
        output = 0.35 * scaled + 0.2 * torch.sin(1.7 * scaled + 0.003 * time) + 0.05 * np.cos(time / 200)
        x = scheduler.step(output, t, x, return_dict=False)[0]
    return x.float()


def main(folder: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    initial = torch.randn(SHAPE, generator=generator)
    draws = torch.randn(2 * max(STEPS), *SHAPE, generator=generator)
    state = record_draws(draws)
    index, samples = [], []
    for name, options in cases():
        finite = []
        for steps in STEPS:
            state["drawn"] = 0
            sample = walk(name, {**BASE, **options}, steps, initial)
            if sample.isfinite().all():
                finite.append(steps)
                samples.append(sample)
        index.append([f"{name}Scheduler", options, finite])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(initial=initial, draws=draws, samples=torch.stack(samples)), folder / "walks.safetensors")
    text = json.dumps(dict(diffusers=diffusers.__version__, config=BASE, index=index))
    (folder / "index.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    print(len(samples), "walks")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
