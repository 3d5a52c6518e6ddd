"""Offline training of the parent net and the SPN. ``segspn train parent|spn`` calls `recipes`."""

from __future__ import annotations

from segspn.training.recipes import train_parent, train_spn

__all__ = ["train_parent", "train_spn"]
