"""A preset is data: a frozen dataclass, read from a YAML file in this folder."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from segspn.errors import InputError
from segspn.foreground import AugmentConfig, ForegroundConfig, NetForegroundConfig
from segspn.instance import InstanceConfig, NetInstanceConfig
from segspn.models import MODELS, LiteWeights, ResNet101Weights


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
    """Every choice of a run. ``seed`` makes online learning, and random weights, repeatable.

    ``model``: one of ``models.MODELS``; ``weights``, ``foreground`` and ``instance`` are of the types
    that it reads, ValueError otherwise.
    """

    name: str
    description: str = ""
    seed: int = 0
    model: str = "lite"
    weights: LiteWeights | ResNet101Weights = field(default_factory=LiteWeights)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    foreground: ForegroundConfig | NetForegroundConfig = field(default_factory=ForegroundConfig)
    instance: InstanceConfig | NetInstanceConfig = field(default_factory=InstanceConfig)
    spn: SpnConfig = field(default_factory=SpnConfig)
    craf: CrafConfig = field(default_factory=CrafConfig)
    threshold: float = 0.5  # merge: a score below is background

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"unknown model {self.model!r}; choose one of {', '.join(MODELS)}")
        for name, kind in MODELS[self.model].sections.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"model {self.model} needs {name} to be {kind.__name__}")


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
    return preset_of({"name": stem, **values}, str(name))


def preset_of(values: Mapping[str, Any], where: str) -> Preset:
    """A preset from plain values, as YAML or JSON gives them. Raises InputError that names ``where``."""
    model = values.get("model", Preset.model)
    # A model that is unknown is refused when the preset is built; any sections will do until then.
    known = isinstance(model, str) and model in MODELS
    sections = MODELS[model if known else Preset.model].sections
    # Every section of the model, so that those the file leaves out get the model's own defaults.
    given = {**dict.fromkeys(sections, {}), **values}
    preset: Preset = _build(Preset, given, where, sections)
    return preset


def _build(
    kind: type, values: dict[str, Any], where: str, sections: Mapping[str, type] | None = None
) -> Any:
    """Values of a YAML mapping -> dataclass, checking names and types.

    ``sections``: types of fields that ``kind`` leaves open.
    """
    hints = {**typing.get_type_hints(kind), **(sections or {})}
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
    try:
        return kind(**made)
    except ValueError as error:  # the dataclass's own checks
        raise InputError(f"{where}: {error}") from error
