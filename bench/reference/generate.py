"""diffusers' side of bench/generate.ts: loads the models and generates an image for each JSON line on stdin.

Run: python generate.py MODELS THREADS
"""
import json
import resource
import sys
import time

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from diffusers import __version__ as version
from safetensors.torch import load_file

models, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
pipe = StableDiffusionPipeline.from_pretrained(models + "/model", torch_dtype=torch.float32)
pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
pipe.load_ip_adapter(models, subfolder="", weight_name="ip_adapter.safetensors", image_encoder_folder=None)
pipe.set_progress_bar_config(disable=True)
features = load_file(models + "/features.safetensors")
# The unconditional row first, and one image in each.
embeds = torch.cat([features["zero_hidden_states"], features["hidden_states"]])[:, None]
print(f"{version}, {torch.__version__}", flush=True)

for line in sys.stdin:
    request = json.loads(line)
    times = []

    def on_step(pipe, step, timestep, tensors):
        times.append(time.perf_counter())
        return tensors

    begin, processor = time.perf_counter(), time.process_time()
    image = pipe(
        "a red circle",
        ip_adapter_image_embeds=[embeds],
        num_inference_steps=request["steps"],
        width=request["size"],
        height=request["size"],
        generator=torch.Generator("cpu").manual_seed(0),
        callback_on_step_end=on_step,
    ).images[0]
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    image.save(models + "/diffusers.png")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    calls = [after - before for before, after in zip(times, times[1:])]
    print(json.dumps(dict(calls=calls, image=seconds, processor=processor, peak=peak)), flush=True)
