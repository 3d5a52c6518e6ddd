"""Foreground and instance one at a time, and their models in files.

A stage alone is a session whose other stages its preset switches off, so that there is one
implementation of each.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segspn.errors import InputError
from segspn.video import replacing

if TYPE_CHECKING:
    from segspn.foreground import ForegroundStage
    from segspn.instance import InstanceStage
    from segspn.pipeline import Segmenter, Session
    from segspn.presets import Preset

    Stage = ForegroundStage | InstanceStage

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
        segmenter: networks and preset.
        frame: the annotated frame, uint8 (H, W, 3).
        labels: its objects, int32 (H, W).
        iterations: of fine-tuning; None: the preset's.
        model: a file of `fit_model` to use in place of fine-tuning.
    """
    preset = _alone(segmenter.preset)
    preset = replace(preset, instance=replace(preset.instance, tune=False))
    preset = _schedule(preset, FOREGROUND, iterations if model is None else 0)
    session = with_preset(segmenter, preset).session()
    session.begin(frame, labels)
    if model is not None:
        session.foreground.restore(_loaded(session.foreground, segmenter, FOREGROUND, model))
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
    preset = _schedule(preset, str(object_id), iterations if model is None else 0)
    session = with_preset(segmenter, preset).session()
    session.begin(frame, np.where(labels == object_id, labels, 0).astype(np.int32))
    if model is not None:
        # The memory is that of the annotated frame; the model file holds the net.
        net = _loaded(session.instance, segmenter, str(object_id), model)
        session.instance.restore({**session.instance.state(), **net})
    return session


def fit_model(
    segmenter: Segmenter,
    frame: np.ndarray,
    labels: np.ndarray,
    target: str,
    iterations: int,
    snapshots: Collection[int],
    path_of: Callable[[int], Path],
) -> None:
    """Fine-tune one model on the annotated frame and write it, atomically, as safetensors.

    Args:
        segmenter: networks and preset.
        frame: the annotated frame, uint8 (H, W, 3).
        labels: its objects, int32 (H, W).
        target: `FOREGROUND` or an object id.
        iterations: of fine-tuning.
        snapshots: numbers of iterations after which the model is written too.
        path_of: the file for a model of so many iterations.
    """
    import torch

    from segspn.foreground import Samples

    preset = _schedule(segmenter.preset, target, iterations)
    ids = tuple(int(i) for i in np.unique(labels) if i)
    if target != FOREGROUND:
        ids = (int(target),)
    with torch.inference_mode():
        samples = Samples(frame, labels, ids, preset.augment, preset.seed, segmenter.device)
        stage: Stage
        if target == FOREGROUND:
            stage = foreground = segmenter.model.foreground(preset)
        else:
            stage = instances = segmenter.model.instances(preset, 1)

        def told(done: int) -> None:
            if done in snapshots and done < iterations:
                _write_model(path_of(done), stage, target, done)

        if target == FOREGROUND:
            foreground.adapt(samples, preset.seed, told)
        else:
            instances.fit(samples, preset.seed, lambda _, done: told(done))
        _write_model(path_of(iterations), stage, target, iterations)


def model_name(target: str, iterations: int) -> str:
    """File name of a model: ``2_00300.safetensors``, ``foreground_00300.safetensors``."""
    return f"{target}_{iterations:05d}.safetensors"


def iterations_of(preset: Preset, target: str) -> int:
    """The preset's number of fine-tuning iterations."""
    from segspn.instance import InstanceConfig

    room = preset.foreground if target == FOREGROUND else preset.instance
    # A classifier is learned in closed form.
    return 1 if isinstance(room, InstanceConfig) else room.fit.steps


def _alone(preset: Preset) -> Preset:
    """``preset`` without the stages after the instances."""
    return replace(
        preset,
        spn=replace(preset.spn, enabled=False),
        craf=replace(preset.craf, enabled=False),
    )


def _schedule(preset: Preset, target: str, iterations: int | None) -> Preset:
    """``preset`` with another number of fine-tuning iterations of the stage of ``target``.

    Raises `InputError` where there can be but one.
    """
    from segspn.instance import InstanceConfig

    if iterations is None:
        return preset
    room = FOREGROUND if target == FOREGROUND else "instance"
    config: Any = getattr(preset, room)
    changed: dict[str, Any] = {}
    if target == FOREGROUND:  # asked for, it adapts with any preset
        config = replace(config, adapt=True)
    if not isinstance(config, InstanceConfig):
        changed[room] = replace(config, fit=replace(config.fit, steps=iterations))
    elif iterations > 1:
        raise InputError(
            f"--iterations {iterations}: preset {preset.name} learns an object in one step; leave it out"
        )
    if iterations == 0:  # nothing to learn from copies
        changed["augment"] = replace(preset.augment, copies=0)
    return replace(preset, **changed)


def _net(stage: Stage) -> dict[str, Any]:
    """What a stage has learned, without what it only remembers of frames."""
    return {k: v.contiguous() for k, v in stage.state().items() if not k.startswith("memory.")}


def _write_model(path: Path, stage: Stage, target: str, iterations: int) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        try:
            save_file(_net(stage), temporary, {"target": target, "iterations": str(iterations)})
        except SafetensorError as error:  # its own name for a full disk
            raise OSError(str(error)) from error
        temporary.chmod(0o644)  # safetensors makes files for the owner alone


def _loaded(stage: Stage, segmenter: Segmenter, target: str, path: Path) -> dict[str, Any]:
    """The tensors of a model file. Raises `InputError` unless it is one for ``target``."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=str(segmenter.device)) as file:
            made_for = (file.metadata() or {}).get("target")
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        told = re.sub(r"\s+", " ", str(error))
        raise InputError(f"{path} is no readable model: make one with --fit ({told})") from error
    if made_for != target:
        raise InputError(
            f"{path} is a model of {made_for or 'something else'}, not of {target}: make one with --fit"
        )
    if {k: v.shape for k, v in _net(stage).items()} != {k: v.shape for k, v in state.items()}:
        raise InputError(f"{path} was made with another preset: make it anew with --fit")
    return state
