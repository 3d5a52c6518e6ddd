"""A preset is data: a frozen dataclass, read from a YAML file in this folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from segspn.config import build, named_text, names_in, parse_mapping
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

    ``side``: longer frames are looked at shrunk to this longest side in pixels; 0: as they are.
    ``bfloat16``: backbone, decoder and SPN of `lite` compute in it where that is faster.
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
    side: int = 0
    bfloat16: bool = False
    threshold: float = 0.5  # merge: a score below is background

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"unknown model {self.model!r}; choose one of {', '.join(MODELS)}")
        for name, kind in MODELS[self.model].sections.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"model {self.model} needs {name} to be {kind.__name__}")


def preset_names() -> list[str]:
    return names_in(resources.files(__name__))


def load_preset(name: str | Preset) -> Preset:
    """A shipped preset by name, or any ``.yaml`` file by path. Raises InputError."""
    if isinstance(name, Preset):
        return name
    return preset_of(preset_values(name), name)


def preset_values(name: str) -> dict[str, Any]:
    """What the file of a preset says, and its name. Raises InputError."""
    text, stem = named_text(name, resources.files(__name__), "preset")
    return {"name": stem, **parse_mapping(text, name, "a preset")}


def preset_of(values: Mapping[str, Any], where: str) -> Preset:
    """A preset from plain values, as YAML or JSON gives them. Raises InputError that names ``where``."""
    model = values.get("model", Preset.model)
    # A model that is unknown is refused when the preset is built; any sections will do until then.
    known = isinstance(model, str) and model in MODELS
    sections = MODELS[model if known else Preset.model].sections
    # Every section of the model, so that those the file leaves out get the model's own defaults.
    given = {**dict.fromkeys(sections, {}), **values}
    preset: Preset = build(Preset, given, where, sections)
    return preset
