"""J and F over time, one panel per sequence. Needs matplotlib, the extra ``plots``."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segspn.errors import InputError
from segspn.evaluation.protocol import Evaluation, SequenceScores, total
from segspn.evaluation.report import make_parent
from segspn.video import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 5
# Two hues when the line is the measure (Okabe-Ito), ten others when the hue is the object: a blue
# line never means J in one panel and an object in the next.
_J_COLOUR, _F_COLOUR = "#0072B2", "#D55E00"
_OBJECT_COLOURS = (
    "#2E8B57", "#7B66D2", "#D37295", "#B8850A", "#3FA7C4", "#57606C", "#8C4A2F", "#9BBF3B",
    "#A3ACB9", "#4B2E83",
)  # fmt: skip


def can_plot() -> bool:
    """Whether matplotlib is installed (it is not imported to find out)."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_frames(evaluation: Evaluation, path: str | Path) -> Path:
    """Draw J and F of every object in every scored frame as one PNG, a panel per sequence.

    With one object J and F have a colour each; with more, each object has a colour, J is the solid
    line and F the dashed one. Returns ``path``. Raises ``InputError`` when matplotlib is missing or
    the file cannot be written.
    """
    if not can_plot():
        raise InputError("matplotlib is not installed; pip install 'segspn[plots]' to draw plots")
    # The object interface leaves pyplot's global state and the user's back end alone.
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    sequences = evaluation.sequences
    columns = min(_COLUMNS, max(1, math.ceil(math.sqrt(len(sequences)))))
    rows = math.ceil(len(sequences) / columns)
    width, height = max(3.1 * columns, 6.2), 2.0 * rows + 1.0
    figure = Figure(figsize=(width, height), dpi=130, facecolor="white")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis, sequence in zip(axes.flat, sequences, strict=False):
        _panel(axis, sequence)
    for axis in axes.flat[len(sequences) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("score", fontsize=8, color="#555555")
    # The lowest panel of each column carries the label of the time axis.
    for column in range(columns):
        shown = [axis for axis in axes[:, column] if axis.get_visible()]
        shown[-1].set_xlabel("frame", fontsize=8, color="#555555")

    one, many = _lines(sequences)
    keys = []
    if one:
        keys += [Line2D([], [], color=_J_COLOUR, label="J, region")]
        keys += [Line2D([], [], color=_F_COLOUR, label="F, boundary")]
    if many:
        colour = "#333333"
        keys += [Line2D([], [], color=colour, label="J, a colour per object")]
        keys += [Line2D([], [], color=colour, ls=(0, (3, 1.5)), label="F, a colour per object")]
    overall = evaluation.total
    title = (
        f"DAVIS {evaluation.year} {evaluation.subset}     J&F {overall.jf:.3f}     "
        f"J {overall.j.mean:.3f}     F {overall.f.mean:.3f}"
    )
    top = 1 - 0.36 / height
    figure.suptitle(title, x=0.012, y=1 - 0.1 / height, ha="left", va="top", fontsize=11,
                    fontweight="bold")  # fmt: skip
    figure.legend(handles=keys, loc="upper left", bbox_to_anchor=(0.006, top), ncols=len(keys),
                  frameon=False, fontsize=8, handlelength=2.2)  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.44 / height), h_pad=1.0, w_pad=0.8)
    path = make_parent(Path(path))
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return path


def _lines(sequences: tuple[SequenceScores, ...]) -> tuple[bool, bool]:
    """Whether there are sequences with one object, and with several."""
    return any(len(s.ids) == 1 for s in sequences), any(len(s.ids) > 1 for s in sequences)


def _panel(axis: Axes, sequence: SequenceScores) -> None:
    frames = _positions(sequence)
    single = len(sequence.ids) == 1
    # A line through one point is invisible.
    marker = "." if len(frames) == 1 else None
    for n, label in enumerate(sequence.ids):
        colour = _OBJECT_COLOURS[n % len(_OBJECT_COLOURS)]
        axis.plot(frames, sequence.f[n], color=_F_COLOUR if single else colour, marker=marker,
                  lw=1.2, ls="-" if single else (0, (3, 1.5)), alpha=0.9)  # fmt: skip
        axis.plot(frames, sequence.j[n], color=_J_COLOUR if single else colour, marker=marker,
                  lw=1.4, label=str(label))  # fmt: skip
    means = total(sequence.objects)
    axis.set_title(sequence.name, fontsize=9, loc="left", pad=4, fontweight="bold")
    axis.set_title(f"{means.j.mean:.2f} / {means.f.mean:.2f}", fontsize=8, loc="right", pad=4,
                   color="#555555")  # fmt: skip
    axis.set_ylim(-0.03, 1.03)
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axis.margins(x=0.02)
    axis.locator_params(axis="x", nbins=5, integer=True)
    axis.grid(color="#e6e6e6", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=7.5, length=0, colors="#555555")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#bbbbbb")
    if not single:
        axis.legend(fontsize=6, loc="lower left", ncols=5, frameon=True, framealpha=0.8,
                    edgecolor="none", handlelength=1.0, columnspacing=0.8,
                    borderpad=0.2)  # fmt: skip


def _positions(sequence: SequenceScores) -> np.ndarray:
    """Frame numbers for the time axis; the count where stems are not numbers."""
    if all(stem.isdecimal() for stem in sequence.frames):
        return np.array([int(stem) for stem in sequence.frames])
    return np.arange(1, len(sequence.frames) + 1)
