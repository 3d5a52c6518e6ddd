"""What a benchmark says about the machine it ran on."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """The processor's name as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine(threads: int) -> str:
    """One line: processor, cores, threads in use, versions of Python and torch."""
    return (
        f"{processor()}, {os.cpu_count()} cores, {threads} threads; "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )
