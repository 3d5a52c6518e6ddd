"""The learned stages one at a time: foreground, instance, SPN.

A stage alone is a session whose other stages its preset switches off, so that there is one
implementation of each.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segspn.errors import InputError
from segspn.video import replacing

if TYPE_CHECKING:
    from segspn.pipeline import Segmenter, Session
    from segspn.presets import Preset

FOREGROUND = "foreground"
"""The target of a model of everything that is annotated; others are object ids, in decimals."""


def with_preset(segmenter: Segmenter, preset: Preset) -> Segmenter:
    """A segmenter that shares the models of ``segmenter``, none loaded twice."""
    other = copy.copy(segmenter)
    other.preset = preset
    return other


def foreground_session(
    segmenter: Segmenter,
    frame: np.ndarray,
    labels: np.ndarray,
    iterations: int | None = None,
    model: Path | None = None,
) -> Session:
    """A session that runs the foreground stage; ``stages.foreground`` of its results counts.

    Args:
        segmenter: models and preset.
        frame: the annotated frame, uint8 (H, W, 3).
        labels: its objects, int32 (H, W).
        iterations: of fine-tuning; None: the preset's.
        model: a file of `save_model` to use in place of fine-tuning.
    """
    preset = _alone(segmenter.preset)
    preset = replace(preset, instance=replace(preset.instance, tune=False))
    if model is not None:
        iterations = 0
    preset = _short(preset, FOREGROUND, iterations)
    session = with_preset(segmenter, preset).session()
    session.annotate(frame, labels)
    if model is not None:
        session.foreground.restore(_loaded(session, FOREGROUND, model))
    return session


def instance_session(
    segmenter: Segmenter,
    frame: np.ndarray,
    labels: np.ndarray,
    object_id: int,
    iterations: int | None = None,
    model: Path | None = None,
) -> Session:
    """A session that runs one object's instance stage; ``stages.coarse`` of its results counts.

    Arguments as for `foreground_session`; every other object of ``labels`` is background.
    """
    preset = _alone(segmenter.preset)
    foreground = replace(preset.foreground, adapt=False, threshold=-1.0)  # keeps everything
    preset = replace(preset, foreground=foreground)
    if model is not None:
        iterations = 0
    preset = _short(preset, "instance", iterations)
    session = with_preset(segmenter, preset).session()
    session.annotate(frame, np.where(labels == object_id, labels, 0).astype(np.int32))
    if model is not None:
        # The memory is that of the annotated frame; the model file holds the net.
        state = session.instance.state()
        session.instance.restore({**state, **_loaded(session, str(object_id), model)})
    return session


def save_model(path: Path, session: Session, target: str, iterations: int) -> None:
    """Write the fine-tuned net of ``target`` (`FOREGROUND` or an id) as safetensors, atomically."""
    from safetensors.torch import save_file

    metadata = {"target": target, "iterations": str(iterations)}
    with replacing(path) as temporary:
        save_file(_net(session, target), temporary, metadata)
        temporary.chmod(0o644)  # safetensors makes files for the owner alone


def model_name(target: str, iterations: int) -> str:
    """File name of a model: ``2_00300.safetensors``, ``foreground_00300.safetensors``."""
    return f"{target}_{iterations:05d}.safetensors"


def iterations_of(preset: Preset, target: str) -> int:
    """The preset's number of fine-tuning iterations."""
    room = preset.foreground if target == FOREGROUND else preset.instance
    return room.fit.steps


def refine_scores(segmenter: Segmenter, pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores float32 (N, H, W) after spatial propagation guided by the frame.

    ``pixels`` uint8 (H, W, 3); ``scores`` float32 (N, H, W) in 0..1.
    """
    import torch
    import torch.nn.functional as F

    from segspn.backbone import Frame

    frame = Frame(pixels, segmenter.device)
    height, width = scores.shape[1:]
    below, right = (n - m for n, m in zip(frame.image.shape[2:], (height, width), strict=True))
    given = torch.from_numpy(scores).to(segmenter.device)[None]
    padded = F.pad(given, (0, right, 0, below), mode="replicate")[0]
    refined: np.ndarray = segmenter.refiner.refine(frame, padded).cpu().numpy()
    return refined


def _alone(preset: Preset) -> Preset:
    """``preset`` without the stages after the instances."""
    return replace(
        preset,
        spn=replace(preset.spn, enabled=False),
        craf=replace(preset.craf, enabled=False),
    )


def _short(preset: Preset, room: str, iterations: int | None) -> Preset:
    """``preset`` with another number of fine-tuning iterations in one room."""
    if iterations is None:
        return preset
    config: Any = getattr(preset, room)
    config = replace(config, fit=replace(config.fit, steps=iterations))
    preset = replace(preset, **{room: config})
    if iterations == 0:  # nothing to learn from copies
        preset = replace(preset, augment=replace(preset.augment, copies=0))
    return preset


def _net(session: Session, target: str) -> dict[str, Any]:
    room: Any = session.foreground if target == FOREGROUND else session.instance
    return {k: v.contiguous() for k, v in room.state().items() if not k.startswith("memory.")}


def _loaded(session: Session, target: str, path: Path) -> dict[str, Any]:
    """The tensors of a model file. Raises `InputError` unless it is one for ``target``."""
    from safetensors import SafetensorError, safe_open

    own = _net(session, target)
    device = str(session.segmenter.device)
    try:
        with safe_open(path, framework="pt", device=device) as file:
            made_for = (file.metadata() or {}).get("target")
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        told = re.sub(r"\s+", " ", str(error))
        raise InputError(f"{path} is no readable model: make one with --fit ({told})") from error
    if made_for != target:
        raise InputError(
            f"{path} is a model of {made_for or 'something else'}, not of {target}: make one with --fit"
        )
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
        raise InputError(f"{path} was made with another preset: make it anew with --fit")
    return state
