"""A training run as data: frozen dataclasses, read from a YAML file like a preset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources

from segspn.config import build, named_text, names_in, parse_mapping, with_settings
from segspn.data import ClipConfig, DataConfig
from segspn.training.loop import LoopConfig


@dataclass(frozen=True)
class StageConfig:
    """How one net is trained; ``size``: side of the square crops, pixels, a multiple of 32.

    ``weights``: source -> sampling weight, where it is another than the data's own. ``start``: the
    weights to begin with, ``shipped`` or a folder of such files; empty: random ones.
    """

    loop: LoopConfig
    size: int = 256
    start: str = ""
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 64 or self.size % 32:
            raise ValueError(f"size must be a multiple of 32 from 64 on, not {self.size}")


@dataclass(frozen=True)
class DecoderConfig(StageConfig):
    """``clip``: what the synthetic clips look like; their size is this net's. ``scenes``: different
    clips, whose features are kept on the disk, beside the checkpoints; 0: every sample is a new one.
    """

    clip: ClipConfig = field(default_factory=ClipConfig)
    scenes: int = 0


@dataclass(frozen=True)
class MatchingConfig(StageConfig):
    """``clip``: what the synthetic clips look like; their size is this net's."""

    clip: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip.frames < 2:
            raise ValueError(f"clip.frames must be 2 or more to match, not {self.clip.frames}")


@dataclass(frozen=True)
class PromptsConfig(StageConfig):
    """``scenes``: different scenes, each seen with several objects and users."""

    scenes: int = 3000


@dataclass(frozen=True)
class TrainConfig:
    """Data and the nets; the YAML files in ``recipes`` explain each value. ``backbone``: the weights
    under all nets, a shipped name or a file."""

    name: str
    data: tuple[DataConfig, ...]
    parent: StageConfig
    decoder: DecoderConfig
    spn: StageConfig
    prompts: PromptsConfig
    matching: MatchingConfig
    description: str = ""
    backbone: str = "efficientnet_lite0"
    seed: int = 0
    bad_share: float = 0.05
    cache_mb: float = 200.0

    def stage(self, name: str) -> StageConfig:
        found: StageConfig = getattr(self, name)
        return found


def recipe_names() -> list[str]:
    return names_in(resources.files("segspn.training") / "recipes")


def load_recipe(name: str, settings: Iterable[str] = ()) -> TrainConfig:
    """A shipped recipe by name, or any ``.yaml`` file by path, changed by ``key=value`` settings.

    Raises InputError that names the file and the value that is wrong.
    """
    text, stem = named_text(name, resources.files("segspn.training") / "recipes", "recipe")
    values = {"name": stem, **parse_mapping(text, name, "a recipe")}
    values = with_settings(values, settings)
    values.pop("anchors", None)  # what a file's parts have in common, under names of its own
    recipe: TrainConfig = build(TrainConfig, values, name)
    return recipe
