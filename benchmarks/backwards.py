"""The sequences of a DAVIS root played backwards, as a data set of their own.

    python benchmarks/backwards.py --davis DAVIS --out BACKWARDS
    segspn evaluate davis --root BACKWARDS --year 2016 --subset val --results DIR

A second look at the same footage: what is annotated is its last frame, what leaves comes in, what grew
shrinks. An idea that gains on the sequences as they are should not lose on these. Files are linked, not
copied, and numbered anew. Only for sequences that are annotated in every frame.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.composer import write_list  # noqa: E402
from segspn.errors import InputError  # noqa: E402
from segspn.evaluation import open_davis  # noqa: E402


def turn(davis: Path, out: Path, year: int, subset: str) -> int:
    """Write the data set; returns how many sequences it has. InputError for what will not do."""
    if out.exists():
        raise InputError(f"{out} is there already: remove it or give another --out")
    data = open_davis(davis, year, subset)
    pairs = {}
    for sequence in data.sequences:
        images = {path.stem: path for path in sequence.images.glob("*.jpg")}
        if set(images) != set(sequence.frames):
            told = "a frame lacks its annotation; leave it out of the list"
            raise InputError(f"{sequence.annotations}: {told}")
        pairs[sequence.name] = [(images[f], sequence.annotation(f)) for f in sequence.frames[::-1]]
    for name, files in pairs.items():
        folders = [out / kind / "480p" / name for kind in ("JPEGImages", "Annotations")]
        for folder in folders:
            folder.mkdir(parents=True)
        for t, both in enumerate(files):
            for folder, path in zip(folders, both, strict=True):
                (folder / f"{t:05d}{path.suffix}").symlink_to(path.resolve())
    write_list(out, year, subset, pairs)
    return len(pairs)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--davis", required=True, type=Path, help="root of the sequences")
    parser.add_argument("--year", type=int, default=2016, help="of the list of sequences")
    parser.add_argument("--subset", default="val", help="the list of sequences")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    args = vars(parser.parse_args(None if arguments is None else list(arguments)))
    try:
        count = turn(**args)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{args['out']}: {count} sequences, backwards")


if __name__ == "__main__":
    main()
