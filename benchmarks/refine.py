"""`segspn refine` on published masks: J and F before and after, by the DAVIS protocol.

    python benchmarks/refine.py --davis DAVIS --masks osvos=FOLDER rgmp=FOLDER --out DIR

FOLDER/<sequence>/%05d.png are a method's published results. Every frame of every sequence is refined
and scored; DIR keeps the refined masks, and a second call takes up what is there. Nothing is tuned to
a method. Several objects: ``--year 2017``, such as for the clips that `multi_object.py` leaves.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import torch

from segspn import Segmenter, refine_video
from segspn.evaluation import Evaluation, open_davis, run_and_evaluate
from segspn.evaluation.run import score_results


def pair(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if not folder:
        raise argparse.ArgumentTypeError(f"{text}: give NAME=FOLDER")
    return name, Path(folder)


def refined(options: argparse.Namespace, masks: Path, out: Path, segmenter: Segmenter) -> Evaluation:
    """Refine all sequences of ``masks`` into ``out`` and score them."""

    def one(frames: Path, _: Path, folder: Path) -> None:
        started = time.perf_counter()
        work = out.with_name(f".{out.name}-work")
        summary = refine_video(
            frames,
            masks / frames.name,
            work,
            segmenter=segmenter,
            stages=options.stages.split(","),
            save=("labels",),
            overwrite=True,
            progress=False,
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(work / frames.name, folder)
        shutil.rmtree(work)
        seconds = time.perf_counter() - started
        print(f"  {out.name} {frames.name}: {seconds / summary.frames:.2f} s a frame", flush=True)

    about = (options.davis, options.year, options.subset)
    return run_and_evaluate(*about, out, one, plots=False, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--masks", type=pair, nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2016)
    parser.add_argument("--subset", default="val")
    parser.add_argument("--stages", default="spn,craf")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = open_davis(options.davis, options.year, options.subset)
    segmenter = Segmenter("default", "cpu")
    rows = []
    for name, folder in options.masks:
        before = score_results(data, folder)
        rows.append((name, before, refined(options, folder, options.out / name, segmenter)))
    print(f"\nstages {options.stages}, {options.threads} threads\n")
    print(
        f"{'':10}{'J':>7}{'F':>7}{'J&F':>7}   refined:{'J':>6}{'F':>7}{'J&F':>7}{'change':>9}"
        "  worst sequence"
    )
    for name, before, after in rows:
        b, a = before.total, after.total
        changes = {
            p.name: (q.j.mean() + q.f.mean() - p.j.mean() - p.f.mean()) / 2
            for p, q in zip(before.sequences, after.sequences, strict=True)
        }
        worst = min(changes, key=lambda k: changes[k])
        print(
            f"{name:10}{b.j.mean:7.3f}{b.f.mean:7.3f}{b.jf:7.3f}   "
            f"{'':8}{a.j.mean:6.3f}{a.f.mean:7.3f}{a.jf:7.3f}{a.jf - b.jf:+9.3f}"
            f"  {worst} {changes[worst]:+.3f}"
        )
        print("  " + " ".join(f"{k} {v:+.3f}" for k, v in changes.items()))


if __name__ == "__main__":
    main()
