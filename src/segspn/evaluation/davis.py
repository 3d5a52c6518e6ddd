"""Where DAVIS keeps its files: years, subsets, resolutions, sequences.

The layout is ``{JPEGImages,Annotations}/480p/<sequence>/%05d.{jpg,png}`` and
``ImageSets/<year>/<subset>.txt``, as in the 2017 release, which holds 2016's lists too. The lists
of the first 2016 release (``ImageSets/480p/<subset>.txt``, two paths a line) are read as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segspn.errors import InputError

YEARS = (2016, 2017)

_RESOLUTIONS = ("480p", "Full-Resolution", "1080p")


@dataclass(frozen=True)
class DavisSequence:
    """One sequence: its two folders and the stems of its annotated frames, in order of time."""

    name: str
    images: Path
    annotations: Path
    frames: tuple[str, ...]

    def annotation(self, stem: str) -> Path:
        """The annotation of one frame."""
        return self.annotations / f"{stem}.png"

    @property
    def first_mask(self) -> Path:
        """The annotation that a semi-supervised method is given."""
        return self.annotation(self.frames[0])


@dataclass(frozen=True)
class DavisSubset:
    """The sequences of one subset of one year at one resolution."""

    root: Path
    year: int
    subset: str
    resolution: str
    sequences: tuple[DavisSequence, ...]


def open_davis(
    root: str | Path, year: int = 2017, subset: str = "val", resolution: str | None = None
) -> DavisSubset:
    """Find the sequences of ``subset`` under ``root``.

    ``resolution`` is the folder below ``Annotations``; by default ``480p`` if there, otherwise
    ``Full-Resolution`` or the only one. Raises ``InputError`` when the root, the list, the
    resolution or a sequence's annotations are missing.
    """
    root = Path(root)
    if year not in YEARS:
        raise InputError(f"DAVIS {year} is not known: give --year 2016 or 2017")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the DAVIS folder that holds Annotations")
    if not (root / "Annotations").is_dir():
        raise InputError(f"{root}: no folder Annotations in it; give the root of a DAVIS release")
    resolution = _resolution(root, resolution)
    names = _read_list(_list_file(root, year, subset))
    sequences = tuple(_sequence(root, resolution, name) for name in names)
    return DavisSubset(root, year, subset, resolution, sequences)


def time_order(stems: Iterable[str]) -> tuple[str, ...]:
    """Stems in order of time: by number where they are numbers, otherwise by name."""
    return tuple(sorted(stems, key=lambda s: (0, int(s), s) if s.isdecimal() else (1, 0, s)))


def stems_in(folder: Path, *suffixes: str) -> tuple[str, ...]:
    """Stems of the files of a folder with one of ``suffixes`` (lower case), in order of time."""
    if not folder.is_dir():
        return ()
    # A name that starts with a dot is a temporary or a system's file, never a frame.
    files = (f for f in folder.iterdir() if not f.name.startswith("."))
    return time_order(f.stem for f in files if f.suffix.lower() in suffixes)


def _resolution(root: Path, wanted: str | None) -> str:
    annotations = root / "Annotations"
    found = sorted(f.name for f in annotations.iterdir() if f.is_dir())
    if wanted is not None:
        if wanted in found:
            return wanted
        raise InputError(f"{annotations / wanted}: no such folder; there are: {_listing(found)}")
    for known in _RESOLUTIONS:
        if known in found:
            return known
    if len(found) == 1:
        return found[0]
    raise InputError(f"{annotations}: expected a folder 480p in it, found {_listing(found)}")


def _list_file(root: Path, year: int, subset: str) -> Path:
    image_sets = root / "ImageSets"
    path = image_sets / str(year) / f"{subset}.txt"
    if path.is_file():
        return path
    if year == 2016:
        for resolution in ("480p", "1080p"):
            first_release = image_sets / resolution / f"{subset}.txt"
            if first_release.is_file():
                return first_release
    known = sorted(f"{f.parent.name}/{f.stem}" for f in image_sets.glob("*/*.txt"))
    raise InputError(f"{path}: no such subset list; ImageSets has: {_listing(known)}")


def _read_list(path: Path) -> tuple[str, ...]:
    """Sequence names, in order, each once.

    A line is a name, or the paths of a frame and its annotation, whose folder is the name.
    """
    names: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = line.split()[0] if line.split() else ""
        parts = PurePosixPath(entry).parts
        if not parts:
            continue
        is_frame = len(parts) > 1 and PurePosixPath(entry).suffix != ""
        names[parts[-2] if is_frame else parts[-1]] = None
    if not names:
        raise InputError(f"{path}: no sequence in it; write one name per line")
    return tuple(names)


def _sequence(root: Path, resolution: str, name: str) -> DavisSequence:
    images = root / "JPEGImages" / resolution / name
    annotations = root / "Annotations" / resolution / name
    frames = stems_in(annotations, ".png")
    if not frames:
        raise InputError(f"{annotations}: no annotations (*.png); complete the dataset")
    return DavisSequence(name, images, annotations, frames)


def _listing(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"
