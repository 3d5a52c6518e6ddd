"""The two pictures: gain against time, and contours side by side. They need matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.refiners.cases import Case, Place
from benchmarks.refiners.methods import NOTHING, Refiner
from benchmarks.refiners.tally import Tally
from segspn.evaluation import region_j
from segspn.video import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito hues, black for ours; a marker of its own for each as well.
STYLES = {
    "segspn": ("#000000", "*"),
    "guided filter, grey": ("#56B4E9", "s"),
    "guided filter, colour": ("#0072B2", "s"),
    "fast global smoother": ("#009E73", "D"),
    "dense CRF": ("#D55E00", "^"),
    "closed-form matting": ("#CC79A7", "v"),
    "GrabCut": ("#E69F00", "o"),
}
OTHER = ("#777777", "P")
ROWS = 6  # frames in the panels


def draw_plot(
    path: Path, tally: Tally, refiners: Sequence[Refiner], kinds: dict[str, list[str]]
) -> None:
    """Change of J&F, mean over the inputs, against milliseconds; one graph per group of inputs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    groups = {title: names for title, names in kinds.items() if names}
    figure = Figure(figsize=(6.6 * len(groups), 5.4), dpi=130, facecolor="white", layout="constrained")
    graphs = figure.subplots(1, len(groups), squeeze=False)[0]
    for axis, (title, names) in zip(graphs, groups.items(), strict=True):
        shown = [r for r in refiners if r.family != NOTHING.family]
        for r in shown:
            colour, marker = STYLES.get(r.family, OTHER)
            size = 190 if marker == "*" else 60
            at = tally.milliseconds(r.name), 100 * tally.change(r.name, names)
            axis.scatter(*at, s=size, color=colour, marker=marker, zorder=3)
        axis.axhline(0, color="#555555", lw=1, ls=(0, (4, 3)), zorder=1)
        axis.annotate("doing\nnothing", (1, 0), (4, 0), xycoords=("axes fraction", "data"), va="center",
                      textcoords="offset points", fontsize=8, color="#555555")  # fmt: skip
        # What matters lies within a point of nothing, what fails far below: both are to be seen.
        axis.set_xscale("log")
        axis.set_yscale("symlog", linthresh=1)
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_title(f"{title.capitalize()} masks: {'; '.join(names)}", fontsize=9, loc="left")
        axis.set_xlabel("milliseconds per mask (median)")
        axis.set_ylabel("change of J&F, points (logarithmic beyond 1)")
        axis.set_yticks([-30, -10, -3, -1, 0, 1, 3, 10, 30])
        axis.minorticks_off()
        axis.grid(color="#e8e8e8", lw=0.6)
        axis.set_axisbelow(True)
        low, high = axis.dataLim.intervaly
        axis.set_ylim(min(-1.5, 1.8 * low), max(1.5, 1.8 * high))
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
        points = {r.name: STYLES.get(r.family, OTHER)[0] for r in shown}
        _label(figure, axis, points)
    save(figure, path)


def _label(figure: Figure, axis: Axes, names: dict[str, str]) -> None:
    """A label at every marker, at the first of several places around it that is still free."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    centres = [axis.transData.transform(c.get_offsets())[0] for c in axis.collections]
    half = 5 * figure.dpi / 72
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in centres]
    offsets = [(9, 0), (-9, 0)]
    offsets += [(dx, dy) for dy in (12, -12, 24, -24, 36, -36, 48, -48) for dx in (9, -9)]
    for (x, y), (name, colour) in zip(centres, names.items(), strict=True):
        point = tuple(axis.transData.inverted().transform((x, y)))
        for offset in offsets:
            text = axis.annotate(name, point, offset, ha="left" if offset[0] > 0 else "right",
                                 va="center", textcoords="offset points", fontsize=8,
                                 color=colour)  # fmt: skip
            box = text.get_window_extent()
            inside = axis.bbox.containsx(box.x0) and axis.bbox.containsx(box.x1)
            if offset is offsets[-1] or (inside and not any(box.overlaps(other) for other in taken)):
                break
            text.remove()
        taken.append(box)
        if abs(offset[1]) > 12:
            line = {"arrowstyle": "-", "color": colour, "lw": 0.6}
            axis.annotate("", point, offset, textcoords="offset points", arrowprops=line)


@dataclass(frozen=True)
class _Row:
    place: Place
    case: Case
    kind: str
    made: dict[str, np.ndarray]


class Panels:
    """Frames spread evenly over those taken, the kinds of input in turn: nobody's choice."""

    def __init__(self, count: int) -> None:
        rows = min(ROWS, count)
        self.chosen = [int((k + 0.5) * count / rows) for k in range(rows)]
        self.rows: list[_Row] = []

    def keep(
        self, index: int, place: Place, case: Case, made: dict[tuple[str, str], np.ndarray]
    ) -> None:
        """Remember frame ``index`` if it is one of those to be shown."""
        if index in self.chosen:
            kinds = list(case.inputs)
            kind = kinds[len(self.rows) % len(kinds)]
            own = {refiner: mask for (refiner, k), mask in made.items() if k == kind}
            self.rows.append(_Row(place, case, kind, own))

    def draw(self, path: Path, refiners: Sequence[Refiner]) -> None:
        """The image with its input, then one column per method (its first setting)."""
        from matplotlib.figure import Figure

        first = {r.family: r for r in reversed(refiners)}
        columns = [r for r in refiners if first[r.family] is r]
        size = (2.6 * len(columns), 2.25 * len(self.rows))
        figure = Figure(figsize=size, dpi=110, facecolor="white", layout="constrained")
        grid = figure.subplots(len(self.rows), len(columns), squeeze=False)
        for axes, row in zip(grid, self.rows, strict=True):
            box = _crop(row.case.truth | row.made[NOTHING.name])
            for axis, refiner in zip(axes, columns, strict=True):
                mask = row.made[refiner.name]
                colour = "#ff2bd6" if refiner is NOTHING else "#ffe600"
                axis.imshow(row.case.image[box], interpolation="bilinear")
                for lines, hue, width in ((row.case.truth, "#00e5ff", 0.8), (mask, colour, 1.3)):
                    if lines[box].any() and not lines[box].all():
                        axis.contour(lines[box], [0.5], colors=[hue], linewidths=[width])
                title = "input" if refiner is NOTHING else refiner.name
                axis.set_title(f"{title}  J {region_j(mask, row.case.truth):.3f}", fontsize=8, pad=3)
                axis.set_xticks([])
                axis.set_yticks([])
            axes[0].set_ylabel(f"{row.place.sequence.name} {row.place.stem}\n{row.kind}", fontsize=8)
        figure.suptitle("Contours: truth cyan, input magenta, refined yellow", fontsize=10)
        save(figure, path)


def _crop(mask: np.ndarray) -> tuple[slice, slice]:
    """A 4:3 window around the object, a sixth of its size wider, as far as the image has one."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    tall = max(48, round(1.33 * max(np.ptp(ys), 0.75 * np.ptp(xs))))
    window = []
    for at, wanted, size in ((ys, tall, mask.shape[0]), (xs, tall * 4 // 3, mask.shape[1])):
        wanted = min(wanted, size, mask.shape[0] * 4 // 3)
        start = min(max(0, (int(at.min()) + int(at.max()) - wanted) // 2), size - wanted)
        window.append(slice(start, start + wanted))
    return window[0], window[1]


def save(figure: Figure, path: Path) -> None:
    with replacing(path) as part:
        figure.savefig(part, format="png")
