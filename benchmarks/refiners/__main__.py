"""segspn's refinement against the refiners a user would otherwise pick: quality and time.

OpenCV's guided filter and fast global smoother are only in opencv-contrib-python-headless, whose
files overwrite those of opencv-python-headless. So give the benchmark an environment of its own, at
the root of the repository:

    python -m venv .venv-refiners
    .venv-refiners/bin/pip install -e ".[plots]"
    .venv-refiners/bin/pip uninstall -y opencv-python-headless
    .venv-refiners/bin/pip install opencv-contrib-python-headless pymatting pydensecrf2
    .venv-refiners/bin/python -m benchmarks.refiners --davis DAVIS --masks osvos=FOLDER --every 10

(pip then says that segspn asks for opencv-python-headless; the contrib build serves as well.) A
refiner whose package is missing gets a row that says so.

The masks of ``--masks NAME=FOLDER ...`` are FOLDER/<sequence>/%05d.png, whatever is not 0 being the
object (DAVIS 2016). With ``--degraded`` true masks are damaged in five ways and repaired. J, F and
J&F are means over the frames taken, then over sequences; the first and last frame of a sequence are
not scored. A change is J&F minus that of the input. The time is that of one mask, from the numpy
image and scores to the numpy mask, the networks' features included: the median over all inputs.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numba
import torch
from rich.progress import track

from benchmarks.machine import processor
from benchmarks.refiners.cases import DEGRADED, check_masks, places, read_case
from benchmarks.refiners.methods import CONTRIB, CRF, MATTING, NOTHING, REFINERS, Refiner
from benchmarks.refiners.pictures import Panels, draw_plot
from benchmarks.refiners.tally import Tally, warm_up
from segspn.errors import InputError
from segspn.evaluation import open_davis
from segspn.evaluation.plot import can_plot


def main(arguments: Sequence[str] | None = None, refiners: Sequence[Refiner] = REFINERS) -> Tally:
    """Parse, run, print; ``refiners`` are what is compared. Raises ``InputError`` for bad input."""
    options = parse(arguments, refiners)
    if (options.plot or options.panels) and not can_plot():
        raise InputError("matplotlib is not installed; pip install 'segspn[plots]' to draw")
    masks = dict(options.masks)
    if not masks and not options.degraded:
        raise InputError("nothing to refine; give --masks NAME=FOLDER, --degraded or both")
    for library in (torch.set_num_threads, cv2.setNumThreads):
        library(options.threads)
    numba.set_num_threads(min(options.threads, os.cpu_count() or 1))

    data = open_davis(options.davis, 2016, options.subset)
    taken = places(data, options.every, options.limit)
    if not taken:
        raise InputError(f"{options.davis}: no frame to score; 3 or more per sequence are needed")
    check_masks(taken, masks)
    wanted = [r for r in refiners if not options.refiners or r.name in options.refiners]
    wanted = [NOTHING, *(r for r in wanted if r.name != NOTHING.name)]
    able = [r for r in wanted if not r.missing]

    tally, panels = Tally(options.subset), Panels(len(taken))
    for i, place in enumerate(track(taken, "Refining", transient=True)):
        case = read_case(place, masks, options.degraded, options.seed)
        if i == 0:
            warm_up(case, able)
        made = tally.add(place, case, able)
        if options.panels:
            panels.keep(i, place, case, made)

    kinds = {"published": list(masks), "degraded": list(DEGRADED) if options.degraded else []}
    height, width = case.truth.shape
    print(
        f"{machine(options.threads)}\nDAVIS 2016 {options.subset}: {len(data.sequences)} sequences, "
        f"{len(taken)} frames {width}x{height} (every {options.every}), seed {options.seed}"
    )
    print_tables(tally, wanted, kinds, options.markdown)
    for refiner in wanted:
        print(f"{refiner.name}: {refiner.settings}")
    if options.plot:
        draw_plot(options.plot, tally, able, kinds)
    if options.panels:
        panels.draw(options.panels, able)
    return tally


def parse(arguments: Sequence[str] | None, refiners: Sequence[Refiner]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.refiners", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--davis", required=True, type=Path, help="DAVIS folder")
    parser.add_argument("--subset", default="val")
    parser.add_argument("--masks", nargs="+", default=[], type=named_folder, metavar="NAME=FOLDER")
    parser.add_argument("--degraded", action="store_true", help="repair damaged true masks as well")
    parser.add_argument("--every", type=positive, default=1, metavar="K", help="each K-th frame")
    parser.add_argument("--limit", type=positive, metavar="N", help="at most N frames a sequence")
    parser.add_argument("--refiners", nargs="+", metavar="NAME", choices=[r.name for r in refiners])
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="gain against time")
    parser.add_argument("--panels", type=Path, metavar="FILE.png", help="contours side by side")
    return parser.parse_args(arguments)


def named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not name or not equals or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: give NAME=FOLDER, a folder that is there")
    return name, Path(folder)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number, 1 or more")
    return int(text)


def print_tables(
    tally: Tally, refiners: Sequence[Refiner], kinds: dict[str, list[str]], markdown: bool
) -> None:
    """First the change on every input side by side, then each input's figures."""
    shown = [kind for group in kinds.values() for kind in group]
    rows = []
    for r in refiners:
        cells = [f"not installed: pip install {r.package}"]
        if not r.missing:
            cells = [f"{tally.milliseconds(r.name):.1f}"]
            cells += [f"{tally.change(r.name, [kind]):+.3f}" for kind in shown]
        rows.append([r.name, *cells])
    print_table("Change of J&F", ["refiner", "ms", *shown], rows, markdown)
    for kind in shown:
        rows = []
        for r in (r for r in refiners if not r.missing):
            total = tally.evaluation(r.name, kind).total
            name, change = tally.worst(r.name, kind)
            scores = (f"{v:.3f}" for v in (total.j.mean, total.f.mean, total.jf))
            gain = f"{tally.change(r.name, [kind]):+.3f}"
            worst = "" if r.name == NOTHING.name else f"{name} {change:+.3f}"
            rows.append([r.name, *scores, gain, f"{tally.milliseconds(r.name, kind):.1f}", worst])
        header = ["refiner", "J", "F", "J&F", "change", "ms", "worst sequence"]
        print_table(f"Input: {kind}", header, rows, markdown)


def print_table(title: str, header: list[str], rows: list[list[str]], markdown: bool) -> None:
    """Aligned columns; a row that is shorter than the header is a name and a remark."""
    full = [header, *(row for row in rows if len(row) == len(header))]
    widths = [max(len(row[k]) for row in full) for k in range(len(header))]
    widths[0] = max(len(row[0]) for row in rows)
    left, right, between = ("| ", " |", " | ") if markdown else ("", "", "  ")

    def line(row: list[str]) -> str:
        row = row + [""] * (len(header) - len(row)) if markdown else row
        cells = [c.rjust(w) if k else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths))]  # noqa: B905
        return f"{left}{between.join(cells)}{right}".rstrip()

    rule = "|---|" + "---:|" * (len(header) - 1) if markdown else "-" * len(line(header))
    print(f"\n{'**' if markdown else ''}{title}{'**' if markdown else ''}\n")
    print("\n".join([line(header), rule, *map(line, rows)]))
    print()


def machine(threads: int) -> str:
    versions = []
    for package in ("segspn", "torch", "numpy", CONTRIB, CRF, MATTING):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} -")
    return (
        f"{processor()}, {os.cpu_count()} cores, threads: {threads}; {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
