"""Writes the timesteps of diffusers' schedulers. Run: python timesteps.py WORK

Reads WORK/timesteps.json, a list of {file, className, config, counts}; writes WORK/<file>: float64, the timesteps of each count one
after another, and WORK/<file>.json: how many each count has, or the error that diffusers raises.
"""
import json
import sys
from pathlib import Path

import diffusers
import numpy as np

diffusers.utils.logging.set_verbosity_error()
work = Path(sys.argv[1])


def timesteps_of(scheduler, count):
    scheduler.set_timesteps(count)
    return scheduler.timesteps.double().numpy()


for request in json.loads((work / "timesteps.json").read_text()):
    scheduler = getattr(diffusers, request["className"]).from_config(request["config"])
    lengths, values = [], []
    for count in request["counts"]:
        try:
            found = timesteps_of(scheduler, count)
        except Exception as error:
            lengths.append(f"{type(error).__name__}: {error}")
            continue
        lengths.append(len(found))
        values.append(found)
    np.concatenate(values).astype("<f8").tofile(work / request["file"])
    (work / f"{request['file']}.json").write_text(json.dumps(lengths))
