"""What the Python side has in common: reading a case's files, and a UNet whose attention is given by a function."""
import json
import sys
from pathlib import Path

from diffusers import UNet2DConditionModel
from safetensors.torch import load_file


def cases(work):
    """The folders WORK/<family>/<kind> and their family's folder."""
    for case in json.loads((work / "cases.json").read_text()):
        family = work / case["family"]
        yield family, family / case["kind"]


def load(path):
    return load_file(path)


def load_unet(family):
    return UNet2DConditionModel.from_pretrained(family / "model" / "unet")


class Attention:
    """A diffusers attention processor: `attend(q, k, v, heads)` is all of it but the projections."""

    def __init__(self, attend):
        self.attend = attend

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        return attn.to_out[0](self.attend(q, k, v, attn.heads))


def added_conditions(tensors):
    if "pooled" not in tensors:
        return {}
    return dict(added_cond_kwargs=dict(text_embeds=tensors["pooled"], time_ids=tensors["time_ids"]))


def work_folder():
    return Path(sys.argv[1])
