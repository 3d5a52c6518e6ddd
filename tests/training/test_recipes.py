"""Each ``segspn train`` command, a few steps long, and its weights loaded back where they belong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from segspn.errors import InputError
from segspn.foreground import ParentNet
from segspn.instance import Decoder
from segspn.prompts.net import PromptNet
from segspn.spn import LightGuidance, MaskEvidence, Propagation
from segspn.training import recipes, train_decoder, train_parent, train_prompts, train_spn
from segspn.weights import load_weights

CHANNELS = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}


@pytest.fixture
def stills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few noisy photographs of one box each, in every source that the recipes name."""
    rng = np.random.default_rng(0)
    for source in recipes.PARENT.sources | recipes.SPN.sources:
        for sub in ("images", "masks"):
            (tmp_path / source / sub).mkdir(parents=True)
        for i in range(2):
            image = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
            mask = np.zeros((120, 160), np.uint8)
            mask[30:90, 40:110] = 1
            cv2.imwrite(str(tmp_path / source / "images" / f"{i:03d}.jpg"), image)
            cv2.imwrite(str(tmp_path / source / "masks" / f"{i:03d}.png"), mask)
    for name in ("PARENT", "DECODER", "SPN", "PROMPTS"):
        recipe = getattr(recipes, name)
        small = replace(recipe, loop=replace(recipe.loop, batch=1, workers=0))
        monkeypatch.setattr(recipes, name, small)
    return tmp_path


@pytest.mark.usefixtures("one_thread")
def test_the_commands_leave_weights_that_load(stills: Path, tmp_path: Path) -> None:
    parent = train_parent(stills, tmp_path / "p", steps=2)
    load_weights(ParentNet(CHANNELS), str(parent))
    decoder = train_decoder(stills, tmp_path / "d", str(parent), steps=2)
    load_weights(Decoder(), str(decoder))
    guidance, evidence, propagation = train_spn(stills, tmp_path / "s", str(parent), steps=2)
    load_weights(LightGuidance(CHANNELS), str(guidance))
    load_weights(MaskEvidence(), str(evidence))
    load_weights(Propagation(), str(propagation))
    prompts = train_prompts(stills, tmp_path / "q", str(parent), steps=2)
    load_weights(PromptNet(CHANNELS), str(prompts))
    # The same call again finds everything done and leaves the same weights.
    before = load_file(decoder)
    after = load_file(train_decoder(stills, tmp_path / "d", str(parent), steps=2))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_missing_stills_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        train_parent(tmp_path / "nowhere", tmp_path / "out", steps=1)
