"""Several objects that cross: J&F, identity switches, and the same sequences with one object.

    python benchmarks/multi_object.py --davis DAVIS --out OUT
    python benchmarks/multi_object.py --davis DAVIS --out OUT --preset fast --objects 5

Composes clips (``benchmarks/composer.py``) into OUT/composed and, with nothing pasted, into
OUT/composed-alone; segments both into OUT/<preset> and OUT/<preset>-alone; scores them by the DAVIS 2017
protocol. What is there already is kept, so that an interrupted run goes on and several presets meet the
same clips: give a new --out to compose others. "base" is object 1, which is in both; its J&F alone is
the single-object figure. Switches, and "confused", the share of true pixels that are given to another
object, are those of ``benchmarks/identity.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.composer import compose, options  # noqa: E402
from benchmarks.identity import LONG, Run, confused, runs, switches  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from segspn.errors import InputError  # noqa: E402
from segspn.evaluation import Evaluation, SequenceScores, open_davis, run_and_evaluate  # noqa: E402
from segspn.video import read_labels  # noqa: E402


@dataclass(frozen=True)
class Identity:
    """Of one clip: runs of switches, and the mean share of true pixels given to another object."""

    runs: list[Run]
    confused: float


def identity(root: Path, results: Path, scores: SequenceScores) -> Identity:
    """How well the objects of one clip were told apart in its scored frames."""
    rows, shares = [], []
    for stem in scores.frames:
        truth = read_labels(root / "Annotations/480p" / scores.name / f"{stem}.png")
        found = read_labels(results / scores.name / f"{stem}.png")
        rows.append(switches(found, truth, scores.ids))
        shares.append(confused(found, truth))
    return Identity(runs(np.stack(rows), scores.ids), float(np.mean(shares)))


def jf(scores: SequenceScores) -> np.ndarray:
    """J&F of each object, ``(N,)``."""
    both: np.ndarray = (scores.j.mean(1) + scores.f.mean(1)) / 2
    return both


def report(
    composed: Evaluation, alone: Evaluation, found: dict[str, Identity]
) -> tuple[list[str], dict[str, object]]:
    """Lines for people and the same figures as plain JSON."""
    width = max(len(s.name) for s in composed.sequences) + 2
    lines = [f"{'clip':{width}}{'J&F':>7}{'base':>7}{'alone':>7}{'confused':>10}  longest switch"]
    rows = []
    for clip, single in zip(composed.sequences, alone.sequences, strict=True):
        each, one = jf(clip), float(jf(single)[0])
        longest = max(found[clip.name].runs, key=lambda run: run.length, default=None)
        told = "none"
        if longest is not None:
            onto = ", ".join(map(str, longest.onto))
            # Runs count from the first scored frame, which is the clip's second.
            told = f"{longest.length} frames from {longest.first + 1}: {longest.object} on {onto}"
        share = found[clip.name].confused
        lines.append(
            f"{clip.name:{width}}{each.mean():7.3f}{each[0]:7.3f}{one:7.3f}{share:10.1%}  {told}"
        )
        rows.append(
            {
                "clip": clip.name,
                "jf": [round(float(value), 4) for value in each],
                "alone": round(one, 4),
                "confused": round(share, 4),
                "runs": [vars(run) for run in found[clip.name].runs],
            }
        )
    base = float(np.mean([jf(s)[0] for s in composed.sequences]))
    lasting = [any(run.length > LONG for run in found[s.name].runs) for s in composed.sequences]
    free = 1 - float(np.mean(lasting))
    mixed = float(np.mean([found[s.name].confused for s in composed.sequences]))
    total, single_total = composed.total.jf, alone.total.jf
    lines += [
        f"{'all objects':{width}}{total:7.3f}{base:7.3f}{single_total:7.3f}{mixed:10.1%}",
        f"{100 * (single_total - total):.1f} points below the single-object figure; "
        f"no switch of more than {LONG} frames in {free:.0%} of the clips",
    ]
    figures = {"jf": total, "base": base, "alone": single_total, "confused": mixed, "free": free}
    return lines, {**{k: round(v, 4) for k, v in figures.items()}, "clips": rows}


def run(preset: str, out: Path, composed: Path, alone: Path) -> dict[str, object]:
    """Segment and score both data sets; prints the table."""
    import torch

    from segspn import Segmenter
    from segspn.jobs import sequence_segmenter

    segment = sequence_segmenter(Segmenter(preset))
    name = Path(preset).stem
    results = [out / name, out / f"{name}-alone"]
    print(f"{machine(torch.get_num_threads())}; preset {name}")
    begun = time.perf_counter()
    both = [
        run_and_evaluate(root, 2017, "val", folder, segment, plots=False)
        for root, folder in zip((composed, alone), results, strict=True)
    ]
    found = {s.name: identity(composed, results[0], s) for s in both[0].sequences}
    lines, figures = report(both[0], both[1], found)
    print("\n".join(lines))
    print(f"{time.perf_counter() - begun:.0f} s in all")
    return figures


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options(parser)
    parser.add_argument("--preset", default="default", help="a preset's name or file")
    parser.add_argument("--out", required=True, type=Path, help="folder for clips and results")
    args = vars(parser.parse_args(None if arguments is None else list(arguments)))
    preset, out = args.pop("preset"), args.pop("out")
    try:
        composed, alone = out / "composed", out / "composed-alone"
        if not composed.exists():
            compose(out=composed, **args)
        counted = len(open_davis(composed).sequences)
        if counted != args["clips"]:
            raise InputError(f"{composed} holds {counted} clips, not {args['clips']}: give a new --out")
        figures = run(preset, out, composed, alone)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    (out / f"{Path(preset).stem}.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
