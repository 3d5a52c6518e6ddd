from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from segspn.cli import main
from segspn.cli.options import _hush
main.__globals__["app"] = lambda **_: _hush({quiet})
main()
import numpy as np
from segspn.spn.enlarge import _TAPS, _quadruple
for kind in (np.float32, np.float64):
    _quadruple(np.zeros((2, 2), kind), np.zeros((8, 8), kind), _TAPS, 0, 2)
"""
NOTE = "segspn: compiling for this processor, once: about ten seconds\n"


def said(cache: Path, quiet: bool) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", SCRIPT.format(quiet=quiet)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("quiet", [False, True])
def test_the_first_run_says_what_it_waits_for_and_later_ones_do_not(
    tmp_path: Path, quiet: bool
) -> None:
    assert said(tmp_path, quiet) == ("" if quiet else NOTE)
    assert said(tmp_path, quiet) == ""
