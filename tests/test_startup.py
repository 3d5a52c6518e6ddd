from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import numpy as np
import segspn

frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
mask = np.zeros((64, 96), np.int32)
mask[16:48, 24:60] = 1
session = segspn.Segmenter("default", "cpu").session()
session.annotate(frame, mask)
session.step(frame)
session.annotate(frame, box=(10, 10, 40, 40))
segspn.refine(frame, mask > 0)
print(*(name for name in ("torch._dynamo", "sympy", "matplotlib", "pandas") if name in sys.modules))
"""


def loaded(script: str) -> list[str]:
    """What a script prints, word by word."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_segmenting_loads_nothing_that_it_does_not_need() -> None:
    """torch's compiler alone takes two seconds and 150 MB."""
    assert loaded(SCRIPT) == []


def test_filtering_and_evaluating_do_without_torch() -> None:
    names = "segspn.craf, segspn.evaluation, segspn.video, segspn.cli"
    assert loaded(f"import sys, {names}; print('torch' in sys.modules)") == ["False"]
