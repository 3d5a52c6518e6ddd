"""What a user gets on `import segspn`, and what ships with it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import segspn

PACKAGE = Path(segspn.__file__).parent
WEIGHTS = sorted((PACKAGE / "weights").glob("*.safetensors"))

PROBE = """
import json, sys, time
start = time.perf_counter()
import segspn
seconds = time.perf_counter() - start
heavy = [name for name in ("torch", "cv2", "numba", "numpy", "av") if name in sys.modules]
print(json.dumps({"seconds": seconds, "heavy": heavy}))
"""


def test_import_is_quick_and_light():
    # The best of three: a busy machine can slow down any one of them.
    found = []
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
        )
        found.append(json.loads(run.stdout))
    assert min(each["seconds"] for each in found) < 1.0
    assert all(each["heavy"] == [] for each in found)


WAITING = """
import os, {first}
import segspn
print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "first", "expected"),
    [
        ({}, "sys", "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "sys", "7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "sys", "None"),
        ({}, "torch", "None"),  # which has been loaded, and reads it no more
    ],
)
def test_torchs_threads_wait_shortly_unless_told_otherwise(
    given: dict[str, str], first: str, expected: str
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    env = {name: value for name, value in os.environ.items() if name not in names} | given
    script = WAITING.format(first=first)
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, env=env
    )
    assert run.stdout.split() == [expected]


def test_version_matches_the_metadata():
    assert segspn.__version__ == importlib.metadata.version("segspn")


@pytest.mark.parametrize("name", segspn.__all__)
def test_public_name_resolves(name):
    assert getattr(segspn, name) is not None
    assert name in dir(segspn)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = segspn.no_such_name


def test_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_weights_are_small_enough_to_ship():
    assert WEIGHTS
    assert sum(path.stat().st_size for path in WEIGHTS) < 40e6


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_weights_have_a_model_card(path):
    card = path.with_suffix(".md")
    assert card.is_file(), f"{path.name} ships without its model card {card.name}"
    assert len(card.read_text(encoding="utf-8").split()) >= 20
