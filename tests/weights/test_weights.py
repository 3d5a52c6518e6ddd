"""Shipped weights are the ones that were shipped, and what does not fit is told in one line."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import segspn.weights as room
from segspn.errors import InputError
from segspn.spn import Propagation
from segspn.weights import load_weights, manifest, save_weights, shipped


def test_manifest_lists_exactly_what_ships() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shipped()}
    assert found == manifest(), "after training anew: sha256sum *.safetensors > SHA256SUMS"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The smallest shipped file and the manifest, where a test may damage them."""
    source = Path(room.__file__).parent
    for name in ("spn_propagation.safetensors", "SHA256SUMS"):
        shutil.copy(source / name, tmp_path / name)
    monkeypatch.setattr(room.resources, "files", lambda _: tmp_path)
    return tmp_path / "spn_propagation.safetensors"


def test_damage_of_a_shipped_file_is_told(copied: Path) -> None:
    load_weights(Propagation(), "spn_propagation")
    data = bytearray(copied.read_bytes())
    data[-1] ^= 1  # still a readable file of the right shape
    copied.write_bytes(data)
    with pytest.raises(InputError, match="damaged or replaced, its sha256 is not .*SHA256SUMS") as told:
        load_weights(Propagation(), "spn_propagation")
    assert "\n" not in str(told.value) and str(copied) in str(told.value)
    load_weights(Propagation(), str(copied))  # as a file of the user's own


def test_a_shipped_file_beside_the_manifest_is_refused(copied: Path) -> None:
    copied.rename(copied.with_name("other.safetensors"))
    with pytest.raises(InputError, match="damaged or replaced"):
        load_weights(Propagation(), "other")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("missing", "weights not found; reinstall segspn or check the path"),
        ("torn", "not a readable safetensors file"),
        ("shape", r"weight is \(3, 2\), expected \(2, 3\); it was made for another Linear"),
        ("lacks", "lacks bias; it was made for another Linear"),
        ("extra", "has an unknown gain"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(tmp_path: Path, change: str, told: str) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(nn.Linear(3, 2), path, {})
    state = load_file(path)
    if change == "missing":
        path.unlink()
    elif change == "torn":
        path.write_bytes(path.read_bytes()[:40])
    else:
        if change == "shape":
            state["weight"] = torch.zeros(3, 2)
        elif change == "lacks":
            del state["bias"]
        else:
            state["gain"] = torch.zeros(1)
        save_file(state, path)
    with pytest.raises(InputError, match=told) as caught:
        load_weights(nn.Linear(3, 2), str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
