"""Writes the timesteps of diffusers' schedulers for 1 to 1000 steps, as one checksum each.

    python3 -m venv VENV && VENV/bin/pip install torch diffusers scipy torchsde safetensors
    VENV/bin/python tools/golden/scheduler_timesteps.py test/golden/schedulers_timesteps

For every class, timestep spacing and spacing of noise levels: the checksums of the timesteps of runs of so many steps,
sum((t_i + 1) * w_i) with w_i = (-1)^i * (1 + frac(i * phi)). A single timestep that differs by 1 changes it by at
least 0.38. NaN: diffusers refuses that number of steps. `index.json.gz` maps each combination to its tensor;
combinations with equal timesteps share one. Timesteps that diffusers finds from noise levels take it long, so that
they are recorded for some numbers of steps, those of the tensor `steps.some`: with Karras' levels and the like, and
with the samplers that call the model between two levels.

One difference is deliberate: with 'trailing', np.arange gives for some numbers of steps (61, say) one timestep more
than asked for, and it is -1. It is left out here.
"""

import gzip
import json
import math
import sys
import warnings
from multiprocessing import Pool
from pathlib import Path

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file

# The betas and offset of Stable Diffusion 1.x and XL.
BASE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
SPACINGS = ["leading", "linspace", "trailing"]
SIGMAS = [None, "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"]
BY_TIMESTEPS = ["DDIM", "DDPM", "PNDM", "LCM", "TCD", "EulerAncestralDiscrete"]
BY_SIGMAS = [
    "EulerDiscrete",
    "HeunDiscrete",
    "LMSDiscrete",
    "KDPM2Discrete",
    "KDPM2AncestralDiscrete",
    "DPMSolverSDE",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "DEISMultistep",
    "UniPCMultistep",
]
BETWEEN_LEVELS = ["KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"]
STEPS = dict(all=list(range(1, 1001)), some=[*range(1, 41), 50, 75, 100, 250, 333, 500, 1000])
PHI = (math.sqrt(5) - 1) / 2
I = np.arange(2 * 1000 + 2)
WEIGHTS = np.where(I % 2 == 0, 1, -1) * (1 + I * PHI - np.floor(I * PHI))


def checksum(scheduler, steps: int) -> float:
    try:
        scheduler.set_timesteps(steps)
    except (ValueError, IndexError):
        return math.nan
    timesteps = scheduler.timesteps.to(torch.float64).numpy()
    timesteps = timesteps[timesteps >= 0]
    return float(((timesteps + 1) * WEIGHTS[: len(timesteps)]).sum())


def options(name: str, spacing: str, sigmas: str | None) -> dict:
    chosen = dict(BASE)
    if name != "DPMSolverSinglestep":
        chosen |= dict(timestep_spacing=spacing, steps_offset=1)
    if name == "PNDM":
        chosen |= dict(skip_prk_steps=True)
    if name == "DPMSolverSinglestep":
        chosen |= dict(lower_order_final=True)
    if sigmas is not None:
        chosen[sigmas] = True
    return chosen


def checksums(combination: tuple[str, str, str | None]) -> np.ndarray:
    name, spacing, sigmas = combination
    scheduler = getattr(diffusers, f"{name}Scheduler")(**options(name, spacing, sigmas))
    return np.array([checksum(scheduler, n) for n in STEPS[steps_of(name, sigmas)]], dtype=np.float32)


def steps_of(name: str, sigmas: str | None) -> str:
    return "all" if sigmas is None and name not in BETWEEN_LEVELS else "some"


def main(folder: Path) -> None:
    combinations = [
        (name, spacing, sigmas)
        for name in BY_TIMESTEPS + BY_SIGMAS
        for sigmas in (SIGMAS if name in BY_SIGMAS else [None])
        for spacing in (["linspace"] if name == "DPMSolverSinglestep" else SPACINGS)  # it knows one only
    ]
    tensors: dict[str, np.ndarray] = {}
    index = []
    with Pool(2) as pool:
        for (name, spacing, sigmas), sums in zip(combinations, pool.imap(checksums, combinations)):
            key = next((k for k, old in tensors.items() if np.array_equal(old, sums, equal_nan=True)), None)
            if key is None:
                key = f"series{len(tensors)}"
                tensors[key] = sums
            row = dict(_class_name=f"{name}Scheduler", timestep_spacing=spacing, sigmas=sigmas)
            index.append(row | dict(steps=steps_of(name, sigmas), series=key))
            print(name, spacing, sigmas, key, int(np.isnan(sums).sum()), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    steps = {f"steps.{name}": np.array(values, dtype=np.float32) for name, values in STEPS.items()}
    save_file(tensors | steps, folder / "timesteps.safetensors")
    text = json.dumps(dict(diffusers=diffusers.__version__, config={**BASE, "steps_offset": 1}, index=index))
    (folder / "index.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    main(Path(sys.argv[1]))
