"""A preset is data: a frozen dataclass, read from a YAML file in this folder."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from segspn.errors import InputError
from segspn.foreground.augment import AugmentConfig
from segspn.foreground.model import ForegroundConfig
from segspn.instance.model import InstanceConfig


@dataclass(frozen=True)
class SpnConfig:
    """``enabled=False`` hands the coarse scores on, upsampled bilinearly."""

    enabled: bool = True


@dataclass(frozen=True)
class CrafConfig:
    """``parameters``: one of craf's sets; ``enabled=False`` merges the scores as they are."""

    enabled: bool = True
    parameters: str = "default"


@dataclass(frozen=True)
class Preset:
    """Every choice of a run. ``seed`` makes online learning repeatable."""

    name: str
    description: str = ""
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    foreground: ForegroundConfig = field(default_factory=ForegroundConfig)
    instance: InstanceConfig = field(default_factory=InstanceConfig)
    spn: SpnConfig = field(default_factory=SpnConfig)
    craf: CrafConfig = field(default_factory=CrafConfig)
    threshold: float = 0.5  # merge: a score below is background


def preset_names() -> list[str]:
    files = resources.files(__name__).iterdir()
    return sorted(f.name[:-5] for f in files if f.name.endswith(".yaml"))


def load_preset(name: str | Preset) -> Preset:
    """A shipped preset by name, or any ``.yaml`` file by path. Raises InputError."""
    if isinstance(name, Preset):
        return name
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: no such preset file")
        text, stem = path.read_text(encoding="utf-8"), path.stem
    else:
        if name not in preset_names():
            raise InputError(f"unknown preset {name!r}; choose one of {', '.join(preset_names())}")
        text, stem = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"), name
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not valid YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(values, dict):
        raise InputError(f"{name}: a preset is a mapping of names to values")
    preset: Preset = _build(Preset, {"name": stem, **values}, str(name))
    return preset


def _build(kind: type, values: dict[str, Any], where: str) -> Any:
    """Values of a YAML mapping -> dataclass, checking names and types."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where}: unknown value {key!r}; known: {', '.join(sorted(known))}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise InputError(f"{where}: {key} must be a mapping")
            made[key] = _build(typing.cast(type, hint), value, f"{where}: {key}")
            continue
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(hint, type) and (
            not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
        ):
            raise InputError(f"{where}: {key} must be {hint.__name__}, not {value!r}")
        made[key] = value
    return kind(**made)
