"""Writes walks of diffusers' schedulers from pure noise on: SDXL's config with v-prediction, rescale_betas_zero_snr and
trailing timesteps, which begin at 999, where no signal is left.

    python3 -m venv VENV && VENV/bin/pip install torch diffusers safetensors
    VENV/bin/python tools/golden/zero_snr_walks.py test/golden/schedulers_zero_snr

The model is 0.3 x + 0.01 t / 1000 of the scaled input x.
"""

import json
import sys
from pathlib import Path

import diffusers
import torch
from safetensors.torch import save_file

CONFIG = dict(
    beta_end=0.012,
    beta_schedule="scaled_linear",
    beta_start=0.00085,
    clip_sample=False,
    num_train_timesteps=1000,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    set_alpha_to_one=False,
    steps_offset=1,
    timestep_spacing="trailing",
)
STEPS = 10

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name in ["EulerDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"]:
    scheduler = getattr(diffusers, name).from_config(CONFIG)
    scheduler.set_timesteps(STEPS)
    initial = torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(21600))
    x = initial * scheduler.init_noise_sigma
    samples = [x]
    for t in scheduler.timesteps:
        output = 0.3 * scheduler.scale_model_input(x, t) + 0.01 * t / 1000
        x = scheduler.step(output, t, x).prev_sample
        samples.append(x)
    tensors = dict(
        initial=initial,
        init_noise_sigma=torch.tensor(float(scheduler.init_noise_sigma)),
        timesteps=scheduler.timesteps.float(),
        samples=torch.stack(samples),
    )
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
config = dict(CONFIG, diffusers_version=diffusers.__version__)
(folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
