"""Offline training of parent, decoder, SPN, prompt net and matching; ``segspn train`` calls `stages`."""

from __future__ import annotations

from segspn.training.config import StageConfig, TrainConfig, load_recipe, recipe_names
from segspn.training.stages import TASKS, Ground, train_all, train_stage

__all__ = [
    "TASKS",
    "Ground",
    "StageConfig",
    "TrainConfig",
    "load_recipe",
    "recipe_names",
    "train_all",
    "train_stage",
]
