"""What is written in docs/ and lies in examples/ runs as it stands."""

from __future__ import annotations

import json
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segspn
from segspn.pipeline import Segmenter
from segspn.presets import load_preset

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]


def quick(name: str) -> Segmenter:
    """The preset with hardly any learning, which is what takes the time."""
    preset = load_preset(name)
    return Segmenter(replace(preset, augment=replace(preset.augment, copies=1)), "cpu")


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(segspn, "Segmenter", quick, raising=False)


def test_session_examples(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "session.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert len(blocks) >= 6
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/session.md", "exec"), names)
    assert names["again"].ids == (1,) and (tmp_path / "state" / "state.json").is_file()
    assert len(names["forward"]) == len(names["backward"]) == 2
    assert all((labels == 1).any() for labels in names["forward"] + names["backward"])
    assert np.array_equal(names["again"].step(names["frames"][7]).ids, names["session"].ids)


def test_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "examples")
    cells = json.loads(Path("segspn.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["result"].ids == (1, 2) and (names["result"].labels == 2).any()


def test_correct_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["correct_midway.py", "--frames", "3", "--out", "out"])
    runpy.run_path(str(ROOT / "examples" / "correct_midway.py"), run_name="__main__")
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == [
        "00000.png", "00001.png", "00002.png"
    ]


def test_camera(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(ROOT / "examples" / "bigbuckbunny.mp4")
    box = ["--box", "109,72,461,401", "--frames", "1"]
    monkeypatch.setattr(sys, "argv", ["camera.py", clip, *box])
    runpy.run_path(str(ROOT / "examples" / "camera.py"), run_name="__main__")
    assert re.match(r"\(\d+, \d+\)  [\d.]+ s, \d+ dropped so far\n$", capsys.readouterr().out)
