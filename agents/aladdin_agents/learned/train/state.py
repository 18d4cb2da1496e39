"""The checkpoint of a run: one file, whole or not there, from which training goes on. Nothing in it is unpickled.

A model as Stable-Baselines3 saves it, with its card, and beside them ``aladdin_state.json``: counters, prices, load,
scale of the reward, validations so far, and the states of the random generators. What cannot be kept is the middle of
an episode: environments begin new ones.
"""

from __future__ import annotations

import base64
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import FAULTS, write_zip_card
from aladdin_env.errors import InputError
from aladdin_traces.files import whole_file

STATE_MEMBER = "aladdin_state.json"
STATE_VERSION = 1
# Of the environments, which a resumed run makes anew.
_NOT_KEPT = (
    "_last_obs", "_last_episode_starts", "_last_original_obs", "rollout_buffer_class", "rollout_buffer_kwargs",
)  # fmt: skip


def write_checkpoint(path: Path, model: MaskablePPO, card: Card, state: dict[str, Any]) -> None:
    """Put all that training needs to go on into one file; an earlier one is there until this one is complete."""
    whole = {"version": STATE_VERSION, "random": random_state(), **state}
    with whole_file(path) as temporary:
        model.save(temporary, exclude=_NOT_KEPT)
        with zipfile.ZipFile(temporary, "a") as file:
            file.writestr(STATE_MEMBER, json.dumps(whole))
        write_zip_card(temporary, card)


def read_checkpoint(path: Path, model: MaskablePPO) -> dict[str, Any]:
    """Put weights and optimiser of a checkpoint into ``model``, set all generators, return the rest of the state.

    Raises:
        InputError: it is no checkpoint of this kind of run, or of another network.
    """
    try:
        with zipfile.ZipFile(path) as file:
            state: dict[str, Any] = json.loads(file.read(STATE_MEMBER))
        if state["version"] != STATE_VERSION:
            raise InputError("checkpoint", str(path), f"version {state['version']} cannot go on here: begin anew")
        model.set_parameters(str(path))
        restore_random(state["random"])
    except FAULTS as error:
        if isinstance(error, InputError):
            raise
        why = " ".join(str(error).split())[:200]
        raise InputError("checkpoint", str(path), f"it cannot be resumed ({why}): begin in another folder") from None
    return state


def random_state() -> dict[str, Any]:
    """The states of the generators of torch, numpy and Python, as JSON can hold them."""
    kind, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": [version, list(internal), gauss],
    }


def restore_random(state: dict[str, Any]) -> None:
    """Set the generators of torch, numpy and Python."""
    packed = np.frombuffer(base64.b64decode(state["torch"]), dtype=np.uint8).copy()
    torch.set_rng_state(torch.from_numpy(packed))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
