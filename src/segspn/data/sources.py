"""Where training data lies: plain folders, DAVIS, YouTube-VOS and COCO layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segspn.data.coco import coco_pictures
from segspn.data.stills import Still, Stills, Video
from segspn.errors import InputError
from segspn.evaluation.davis import open_davis, stems_in, time_order

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class DataConfig:
    """One source of training data.

    ``kind``: ``folder`` (images and masks of the same stem), ``davis``, ``youtube_vos`` or ``coco``.
    ``root``: its folder; relative ones start from the folder given on the command line, else from the
    current one. ``weight``: how often it is drawn from, beside the others. ``images`` and ``masks``:
    what they are called below the root; by default ``images`` and ``masks``, for ``youtube_vos``
    ``JPEGImages`` and ``Annotations``; ``masks`` of ``coco`` is the JSON file. ``subset``: of
    ``davis``, year and list. ``sharp``: the masks follow the edges to the pixel (those of most data sets
    do not): they are trusted there, and cut out as they are.
    """

    root: str
    kind: str = "folder"
    name: str = ""  # in messages and in a stage's weights; by default the last part of root
    weight: float = 1.0
    images: str = ""
    masks: str = ""
    subset: str = "2017/train"
    sharp: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, as {self.weight} is")

    @property
    def label(self) -> str:
        return self.name or Path(self.root).name


def open_data(
    entries: Sequence[DataConfig],
    base: str | Path = "",
    weights: dict[str, float] | None = None,
    split: str = "train",
    cache_mb: float = 0.0,
) -> Stills:
    """Find the pictures of all sources. ``weights``: source name -> weight instead of the entry's.

    Raises InputError, naming folder and mend, for what is missing, and for names that occur twice.
    """
    if not entries:
        raise InputError("the config lists no data; add e.g. --set 'data=[{root: my/folder}]'")
    given = {entry.label: entry.weight for entry in entries}
    if len(given) < len(entries):
        raise InputError("two sources of data have the same name: give them a name each")
    given |= weights or {}
    sources: dict[str, Sequence[Video]] = {}
    for entry in entries:
        if given[entry.label] == 0:
            sources[entry.label] = ()
            continue
        root = Path(base) / entry.root
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; check the config's data or the folder given")
        sources[entry.label] = KINDS[entry.kind](entry, root)
    return Stills(sources, given, split, cache_mb)


def _folder(entry: DataConfig, root: Path) -> list[Video]:
    images, masks = root / (entry.images or "images"), root / (entry.masks or "masks")
    found = {f.stem: f for f in _files(images)}
    stems = [stem for stem in time_order(found) if (masks / f"{stem}.png").exists()]
    if not found:
        raise InputError(f"{images}: no pictures ({', '.join(PICTURES)}); check the data folder")
    if not stems:
        raise InputError(f"{masks}: no mask matches an image; name them <image's name>.png")
    return [(_still(entry, found[stem], masks / f"{stem}.png"),) for stem in stems]


def _davis(entry: DataConfig, root: Path) -> list[Video]:
    year, slash, subset = entry.subset.partition("/")
    if not slash or not year.isdecimal():
        raise InputError(f"{root}: subset is year/list, such as 2017/train, not {entry.subset!r}")
    found = open_davis(root, int(year), subset).sequences
    return [_frames(entry, s.images, s.annotations, s.frames) for s in found]


def _youtube_vos(entry: DataConfig, root: Path) -> list[Video]:
    images, masks = root / (entry.images or "JPEGImages"), root / (entry.masks or "Annotations")
    if not masks.is_dir():
        raise InputError(f"{masks}: no such folder; give the folder that holds it and JPEGImages")
    videos = []
    for folder in sorted(f for f in masks.iterdir() if f.is_dir()):
        stems = stems_in(folder, ".png")
        if stems:
            videos.append(_frames(entry, images / folder.name, folder, stems))
    if not videos:
        raise InputError(f"{masks}: no <video>/*.png in it")
    return videos


def _still(entry: DataConfig, image: Path, mask: Path) -> Still:
    return Still(entry.label, image, mask, entry.sharp)


def _frames(entry: DataConfig, images: Path, masks: Path, stems: Sequence[str]) -> Video:
    found = {f.stem: f for f in _files(images)}
    frames = [_still(entry, found[s], masks / f"{s}.png") for s in stems if s in found]
    if not frames:
        raise InputError(f"{images}: no picture for any mask in {masks}; complete the dataset")
    return tuple(frames)


def _coco(entry: DataConfig, root: Path) -> list[Video]:
    if not entry.masks:
        raise InputError(f"{root}: name the JSON file of the annotations in the config's masks")
    images = root / (entry.images or "images")
    found = coco_pictures(images, root / entry.masks)
    return [(Still(entry.label, path, outlines, entry.sharp),) for path, outlines in found]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the data folder")
    return [f for f in folder.iterdir() if f.suffix.lower() in PICTURES and f.name[0] != "."]


KINDS: dict[str, Callable[[DataConfig, Path], list[Video]]] = {
    "folder": _folder,
    "davis": _davis,
    "youtube_vos": _youtube_vos,
    "coco": _coco,
}
