"""Offline training of parent, decoder, SPN and prompt net; ``segspn train`` calls `recipes`."""

from __future__ import annotations

from segspn.training.recipes import train_decoder, train_parent, train_prompts, train_spn

__all__ = ["train_decoder", "train_parent", "train_prompts", "train_spn"]
