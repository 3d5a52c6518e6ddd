"""Offline training of parent net, instance decoder and SPN; ``segspn train`` calls `recipes`."""

from __future__ import annotations

from segspn.training.recipes import train_decoder, train_parent, train_spn

__all__ = ["train_decoder", "train_parent", "train_spn"]
