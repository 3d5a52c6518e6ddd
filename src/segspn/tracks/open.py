"""Masks of any tool: what they are is found out by looking at them."""

from __future__ import annotations

from pathlib import Path

from segspn.errors import InputError
from segspn.tracks.base import Tracks, Wanted
from segspn.tracks.coco import read_coco
from segspn.tracks.film import MaskVideo
from segspn.tracks.folder import (
    LabelMaps,
    ObjectMaps,
    images_by_stem,
    per_object_files,
    per_object_folders,
    require_lossless,
)
from segspn.tracks.match import FrameNames
from segspn.video import IMAGE_SUFFIXES, Source, list_images, natural_key

# Where a root of results or of a DAVIS release keeps the masks of a sequence.
_IN_A_ROOT = ("", "Annotations/480p", "Annotations/Full-Resolution", "480p", "Annotations")


def open_tracks(
    masks: str | Path,
    source: Source,
    name: str,
    *,
    annotated: bool = False,
    resize: bool = False,
) -> Tracks:
    """Open the masks of the frames of ``source``, the video called ``name``.

    ``masks`` is one of:

    - a folder of label maps ``<frame>.png``: palette, grey or 16-bit grey, ids as values; or binary;
    - a folder of ``<frame>_<object>.png``, one per object, soft (0..255) or binary;
    - a folder with a folder of ``<frame>.png`` for each object;
    - a folder with one of these, called ``name``, or a DAVIS root with it below ``Annotations/480p``;
    - a video of black and white, or soft grey, masks of one object;
    - a JSON file of COCO or YouTube-VIS run-length encoded masks, see `read_coco`;
    - one image, for a single frame.

    Files are matched with frames by name, or, where no name is a frame's, in order (`FrameNames`).
    ``annotated``: masks of the first frame are not needed. ``resize``: accept another size.

    Raises `InputError`, naming file and mend, for whatever else it is: all names, sizes and counts
    are looked at here.
    """
    path = Path(masks)
    wanted = Wanted(source, FrameNames(source), annotated, resize)
    if not wanted.needed:
        raise InputError(
            f"{source.spec} has one frame, which --mask annotates: nothing is to be refined"
        )
    if path.is_dir():
        return _open_folder(path, wanted, name)
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path of the masks")
    if path.suffix.lower() == ".json":
        return read_coco(path, wanted, name)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        require_lossless([path])
        return LabelMaps(path, {path.stem: path}, wanted)
    return MaskVideo(path, wanted)


def _open_folder(folder: Path, wanted: Wanted, name: str) -> Tracks:
    files = images_by_stem(folder)
    per_object = per_object_files(files, wanted)
    if per_object is not None:
        found, notes = per_object
        require_lossless(file for maps in found.values() for file in maps.values())
        return ObjectMaps(folder, found, wanted, "score maps", notes)
    if not any(wanted.names.knows(stem) for stem in files):
        for part in _IN_A_ROOT:
            inner = folder / part / name
            if inner.is_dir():
                return _open_folder(inner, wanted, name)
        folders = [entry for entry in folder.iterdir() if _holds_images(entry)]
        if folders and not files:
            folders.sort(key=lambda entry: natural_key(entry.name))
            found, notes = per_object_folders(folders)
            return ObjectMaps(folder, found, wanted, "a folder per object", notes)
    if not files:
        raise InputError(
            f"the folder {folder} holds no masks: give %05d.png, %05d_<object>.png, a folder per "
            f"object, or a folder {name} with one of these"
        )
    require_lossless(files.values())
    return LabelMaps(folder, files, wanted)


def _holds_images(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".") and bool(list_images(entry))
