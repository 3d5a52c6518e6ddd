"""A session's state on disk: a tensor file, and a JSON file that names it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from segspn.errors import InputError
from segspn.foreground import Shot
from segspn.session.frames import State

STATE_VERSION = 6
_NAMES = ("state-0.safetensors", "state-1.safetensors")  # in turn: one is whole at any time


def write_state(folder: Path, state: State, index: int, about: dict[str, Any]) -> None:
    """Write ``state`` after ``index`` frames, and ``about``, plain JSON values, into ``folder``.

    The JSON is replaced last and names the tensor file, so a killed save leaves the former state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"foreground.{k}": v for k, v in state.foreground.items()}
    tensors |= {f"instance.{k}": v for k, v in state.instance.items()}
    for key, value in (state.craf or {}).items():
        tensors[f"craf.{key}"] = torch.from_numpy(np.asarray(value).copy())
    for n, shot in enumerate(state.shots):
        tensors[f"shot.{n}.frame"] = torch.from_numpy(shot.frame)
        tensors[f"shot.{n}.labels"] = torch.from_numpy(shot.labels)
    name = _NAMES[_current(folder) == _NAMES[0]]
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, folder / name)
    shots = [
        {"known": sorted(s.known), "found": sorted(s.found), "index": s.index} for s in state.shots
    ]
    meta = {
        "version": STATE_VERSION,
        "tensors": name,
        "ids": list(state.ids),
        "index": index,
        "shots": shots,
        **about,
    }
    temporary = folder / ".state.json.tmp"
    temporary.write_text(json.dumps(meta), encoding="utf-8")
    os.replace(temporary, folder / "state.json")


def read_state(folder: Path, device: torch.device) -> tuple[State, dict[str, Any]]:
    """Counterpart of `write_state`: the state, and the JSON file's values.

    Raises `InputError` when the state is missing, damaged or another version's.
    """
    try:
        meta = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no readable session state ({error})") from error
    if not isinstance(meta, dict) or meta.get("version") != STATE_VERSION:
        raise InputError(f"{folder}: session state of another version of segspn; start afresh")
    name = meta.get("tensors")
    if name not in _NAMES:  # never a path of somebody else's
        raise InputError(f"{folder}: damaged session state ({name!r}); start afresh")
    try:
        tensors = load_file(folder / name, device=str(device))
        shots = tuple(
            Shot(
                tensors[f"shot.{k}.frame"].cpu().numpy(),
                tensors[f"shot.{k}.labels"].cpu().numpy(),
                frozenset(told["known"]),
                frozenset(told["found"]),
                told["index"],
            )
            for k, told in enumerate(meta["shots"])
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{folder / name}: damaged session state ({error}); start afresh") from error
    craf = {k: v.cpu().numpy() for k, v in _under(tensors, "craf.").items()}
    state = State(
        tuple(meta["ids"]),
        _under(tensors, "foreground."),
        _under(tensors, "instance."),
        craf or None,
        shots,
    )
    return state, meta


def _current(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "state.json").read_text(encoding="utf-8"))["tensors"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or none worth keeping


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
