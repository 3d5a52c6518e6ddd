"""What a run tells about itself: ``run.json`` and the summary for the caller."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import segspn
from segspn.errors import InputError
from segspn.video import write_bytes

Timings = dict[str, list[float]]


@dataclass(frozen=True)
class RunSummary:
    """A finished run.

    Attributes:
        out: the output folder.
        labels: the folder of label PNGs; None if they were not asked for.
        frames: number of frames.
        ids: the objects.
        resumed_at: frames that were already written when the run was resumed; 0 for a fresh run.
        was_finished: there was nothing to do, the run had been finished before.
        report: the content of ``run.json``.
    """

    out: Path
    labels: Path | None
    frames: int
    ids: tuple[int, ...]
    resumed_at: int
    was_finished: bool
    report: dict[str, Any]

    def told(self) -> str:
        """One line for the user."""
        objects = "1 object" if len(self.ids) == 1 else f"{len(self.ids)} objects"
        if self.was_finished:
            return f"{self.out} is finished already: {self.frames} frames, {objects}"
        speed = f"{self.report['fps']:.2f} frames/s"
        resumed = f", resumed after frame {self.resumed_at}" if self.resumed_at else ""
        cuts = len(self.report["cuts"])
        scenes = "" if not cuts else ", 1 cut" if cuts == 1 else f", {cuts} cuts"
        return f"{self.out}: {self.frames} frames, {objects}{scenes}, {speed}{resumed}"


def versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    import torch

    return {
        "segspn": segspn.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def installation() -> Iterator[str]:
    """Lines that tell what this installation has: versions, devices, presets, weights."""
    import torch

    from segspn.presets import load_preset, preset_names
    from segspn.weights import shipped

    yield from (f"{name:8} {version}" for name, version in versions().items())
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append(f"cuda ({torch.cuda.get_device_name()})")
    if torch.backends.mps.is_available():
        devices.append("mps")
    yield f"devices  {', '.join(devices)}; {torch.get_num_threads()} threads"
    yield "presets"
    for name in preset_names():
        yield f"  {name:10} {load_preset(name).description}"
    yield "weights"
    for file in shipped():
        yield f"  {file.name:34} {file.stat().st_size / 2**20:6.1f} MiB"


def timing_table(timings: Timings) -> dict[str, dict[str, float]]:
    """Seconds of each stage: all frames together, and the median frame."""
    return {
        stage: {"total": round(sum(times), 4), "median": round(statistics.median(times), 5)}
        for stage, times in timings.items()
    }


def peak_memory() -> int | None:
    """Peak resident memory of this process in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write ``run.json``, atomically. Raises `InputError` where that is impossible."""
    write_bytes(path, (json.dumps(report, indent=2) + "\n").encode())


def read_report(path: Path) -> dict[str, Any] | None:
    """The report of a finished run, None if there is none. Raises `InputError` if it is damaged."""
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: start anew with --overwrite") from error
    return report if isinstance(report, dict) and report.get("finished") else None
