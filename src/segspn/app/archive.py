"""The project file: a zip of JSON and PNG masks, to go on later."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from segspn.app.clip import Clip
from segspn.app.project import MOST_OBJECTS, Project
from segspn.errors import InputError
from segspn.video import replacing

_FORMAT = "segspn project"
_VERSION = 1
_INDEX = "project.json"
# A mask file may have so many bytes per pixel: PNG never needs more than its raw values and change.
_PER_PIXEL = 2
_INDEX_BYTES = 64 << 20
_UNKNOWN = "that project names frames or objects that are not there"


def save_project(project: Project, clip: Clip, name: str, target: Path) -> None:
    """Write the project file ``target`` of the video ``name``, atomically."""
    tracked = project.tracked
    index = {
        "format": _FORMAT,
        "version": _VERSION,
        "video": {"name": name, "frames": len(clip), "size": list(project.size)},
        "objects": [
            {"id": t.id, "name": t.name, "colour": t.colour, "removed": t.removed}
            for t in project.things.values()
        ],
        "drawn": {str(frame): sorted(ids) for frame, ids in sorted(project.drawn.items())},
        "tracked": {str(frame): list(ids) for frame, ids in sorted(tracked.items())},
        "cuts": sorted(project.cuts),
    }
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(_INDEX, json.dumps(index, indent=1), zipfile.ZIP_DEFLATED)
        for path, file in project.masks().items():
            archive.write(file, path)


def load_project(path: Path, clip: Clip, folder: Path) -> Project:
    """The project in ``path``, its masks unpacked into ``folder``, which is emptied first.

    Nothing in it is trusted: names, sizes and values are checked, and no path in it is used.
    Raises `InputError` for a file that is no project, is damaged or belongs to another video.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            index = _read_index(archive)
            project = Project(folder, clip.source.size, len(clip))
            _require_video(index, clip)
            _add_objects(project, index["objects"])
            drawn = {k: frozenset(v) for k, v in _frames(index, "drawn", project).items()}
            tracked = {k: tuple(v) for k, v in _frames(index, "tracked", project).items()}
            _require_masks(archive, drawn, tracked)
            _unpack(archive, folder, _PER_PIXEL * project.size[0] * project.size[1] + 65536)
            project.adopt(drawn, tracked)
            project.cuts = _cuts(index, project)
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError("that file is damaged or is no segspn project") from error
    return project


def _read_index(archive: zipfile.ZipFile) -> dict[str, Any]:
    if archive.getinfo(_INDEX).file_size > _INDEX_BYTES:
        raise InputError("that project's index is too large to be true")
    index = json.loads(archive.read(_INDEX))
    if index["format"] != _FORMAT or index["version"] != _VERSION:
        raise InputError("that project was made by another version of segspn")
    return dict(index)


def _require_video(index: dict[str, Any], clip: Clip) -> None:
    video = index["video"]
    if video["frames"] != len(clip) or video["size"] != list(clip.source.size):
        height, width = (int(side) for side in video["size"])
        here = clip.source.size
        raise InputError(
            f"that project belongs to {str(video['name'])[:80]} with {int(video['frames'])} frames "
            f"of {width}x{height}, and this video has {len(clip)} of {here[1]}x{here[0]}: open its "
            "own video first"
        )


def _add_objects(project: Project, objects: list[dict[str, Any]]) -> None:
    # Removed ones last: their colours may have been taken since.
    for told in sorted(objects, key=lambda told: bool(told["removed"])):
        object_id, removed = _whole(told["id"]), bool(told["removed"])
        if object_id in project.things:
            raise InputError("that project has two objects of one number")
        thing = project.add(
            str(told["name"]), None if removed else _whole(told["colour"]), object_id
        )
        thing.removed = removed
    project.things = dict(sorted(project.things.items()))


def _require_masks(
    archive: zipfile.ZipFile,
    drawn: dict[int, frozenset[int]],
    tracked: dict[int, tuple[int, ...]],
) -> None:
    """Every mask that the index tells of, and nothing else: which bounds their number too."""
    wanted = [f"drawn/{frame:06d}.png" for frame in drawn]
    wanted += [f"tracked/{frame:06d}.png" for frame in tracked]
    wanted += [f"scores/{frame:06d}_{i}.png" for frame, ids in tracked.items() for i in ids]
    if sorted([_INDEX, *wanted]) != sorted(entry.filename for entry in archive.infolist()):
        raise InputError("that project lacks masks or holds files that do not belong into one")


def _frames(index: dict[str, Any], kind: str, project: Project) -> dict[int, list[int]]:
    """Frame -> objects, checked against the project."""
    found: dict[int, list[int]] = {}
    for frame, ids in index[kind].items():
        if not 0 <= int(frame) < project.count or not set(ids) <= set(project.things):
            raise InputError(_UNKNOWN)
        found[int(frame)] = [_whole(i) for i in ids]
    return found


def _cuts(index: dict[str, Any], project: Project) -> set[int]:
    """The first frames of scenes, which older files do not tell of."""
    cuts = index.get("cuts", [])
    if not all(type(frame) is int and 0 < frame < project.count for frame in cuts):
        raise InputError(_UNKNOWN)
    return set(cuts)


def _unpack(archive: zipfile.ZipFile, folder: Path, most: int) -> None:
    for entry in archive.infolist():
        if entry.filename == _INDEX:
            continue
        if entry.file_size > most:
            raise InputError(f"{entry.filename} in that project is too large for its video")
        kind, name = entry.filename.split("/")
        with archive.open(entry) as source, (folder / kind / name).open("wb") as target:
            shutil.copyfileobj(source, target)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 < value <= MOST_OBJECTS:
        raise InputError(_UNKNOWN)
    return value
