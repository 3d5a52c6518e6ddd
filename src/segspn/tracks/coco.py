"""Run-length encoded masks in JSON: COCO's annotations and results, YouTube-VIS's results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segspn.errors import InputError
from segspn.tracks.base import COUNTED_FROM_0, FrameMasks, Wanted, file_identity, require_ids
from segspn.tracks.match import Match
from segspn.tracks.rle import decode_rle, encode_rle
from segspn.video import Source, replacing

# Keys that tell which object an entry is, the first one that is there; an annotation's own "id" is
# different in every frame.
_OBJECT_KEYS = ("track_id", "object_id", "instance_id", "obj_id", "tracking_id", "category_id")
_FRAME_KEYS = ("image_id", "frame_index", "frame_id", "frame")

Entry = dict[str, Any]
Segmentation = dict[str, Any]


def read_coco(path: Path, wanted: Wanted, name: str) -> RleMasks:
    """The masks in a JSON file, one of:

    - COCO results: a list of ``{"image_id" | "file_name" | "frame_index", "track_id" | "object_id" |
      "category_id", "segmentation"}``;
    - a COCO dict: ``images`` (``id``, ``file_name``) and ``annotations`` as above, ``track_id`` also in
      ``attributes``;
    - YouTube-VIS results: a list of ``{"video_id", "segmentations"}``, an RLE or null for each frame;
      each entry is an object, ``id`` its number, or its place in the list;
    - a YouTube-VIS dict: ``videos`` (``id``, ``file_names``) and ``annotations`` as above.

    An ``image_id`` without ``images`` is the frame's number or name. Where there are several videos,
    that called ``name`` counts. ``score`` is not looked at. Raises `InputError` for anything else, for
    an object twice in a frame and for another size than the frames'.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no readable JSON file: {error}") from error
    described = content if isinstance(content, dict) else {"annotations": content}
    entries = described.get("annotations")
    if entries is None or not all(map(_is_list, (entries, *map(described.get, ("images", "videos"))))):
        raise InputError(
            f"{path} is not of COCO's form: it must be a list of masks, or hold images and annotations"
        )
    reader = _Reader(path, wanted, name)
    if any("segmentations" in entry for entry in entries):
        reader.add_videos(entries, described.get("videos") or [])
    else:
        reader.add_images(entries, described.get("images"))
    return RleMasks(path, wanted, reader)


class RleMasks:
    """Run-length encoded masks, held encoded, which is a few kilobytes for each."""

    def __init__(self, path: Path, wanted: Wanted, reader: _Reader) -> None:
        self._path = path
        self._wanted = wanted
        shift = 1 if 0 in reader.objects else 0
        self._frames = [{i + shift: s for i, s in masks.items()} for masks in reader.frames]
        self.ids = require_ids((i for index in wanted.needed for i in self._frames[index]), path)
        self.kind = "run-length encoded masks"
        self.paths: tuple[Path, ...] = (path,)
        self.identity = file_identity(path)
        self.notes = (*reader.notes, *([COUNTED_FROM_0.format(path)] if shift else []))

    def read(self, first: int = 0) -> Iterator[FrameMasks]:
        for index in range(first, len(self._frames)):
            masks: FrameMasks = {}
            for object_id, segmentation in self._frames[index].items():
                try:
                    mask = decode_rle(segmentation["counts"], segmentation["size"])
                except ValueError as error:
                    frame = self._wanted.source.names[index]
                    raise InputError(
                        f"{self._path}: the mask of object {object_id} in frame {frame} is damaged: "
                        f"{error}"
                    ) from error
                masks[object_id] = mask.astype(np.uint8) * np.uint8(255)
            yield masks


class _Reader:
    """Sorts the entries of a file by frame.

    Attributes:
        frames: segmentations by object id, for each selected frame.
        objects: the ids of the whole file.
        notes: what the user should know.
    """

    def __init__(self, path: Path, wanted: Wanted, name: str) -> None:
        self.frames: list[dict[int, Segmentation]] = [{} for _ in range(len(wanted.source))]
        self.objects: set[int] = set()
        self.notes: list[str] = []
        self._path = path
        self._wanted = wanted
        self._name = name

    def add_images(self, entries: list[Entry], images: list[Entry] | None) -> None:
        """Entries of single frames; ``images`` the files that their ``image_id`` stands for."""
        if images is None:
            named = [_frame_of(entry) for entry in entries]
            match = self._match_alone(named)
        else:
            files = self._files(images)
            known = {str(image.get("id")) for image in images}
            ids = [str(entry.get("image_id")) for entry in entries]
            if not known.issuperset(ids):
                wrong = next(i for i in ids if i not in known)
                raise InputError(f"{self._path}: image_id {wrong} is not among its images")
            named = [files.get(image_id) for image_id in ids]
            match = self._wanted.names.match(files.values())
            told = f"{self._path} lists no image {{name}}"
            self._wanted.names.require(match, self._wanted.needed, told)
        self._tell_order(match)
        index_of = {frame: index for index, frame in match.names.items()}
        for entry, frame in zip(entries, named, strict=True):
            object_id = self._object_of(entry)
            self.objects.add(object_id)
            if frame is None and images is None:
                raise InputError(f"{self._path}: a mask lacks its frame: give image_id or file_name")
            if frame in index_of:
                self._add(index_of[frame], object_id, entry.get("segmentation"))

    def add_videos(self, entries: list[Entry], videos: list[Entry]) -> None:
        """Entries of whole videos; ``videos`` tell their names and files."""
        known = {str(entry.get("video_id")) for entry in entries}
        if len(videos) > 1 or len(known) > 1:
            number = self._number_of_video(known, videos)
            entries = [entry for entry in entries if str(entry.get("video_id")) == number]
            videos = [video for video in videos if str(video.get("id")) == number]
        lists: list[Any] = [entry.get("segmentations") for entry in entries]
        lengths = {len(masks) if isinstance(masks, list) else -1 for masks in lists}
        if len(lengths) != 1 or -1 in lengths:
            raise InputError(
                f"{self._path}: each entry needs segmentations, an RLE or null for each frame"
            )
        files = [_stem(file) for file in _file_names(videos[0])] if videos else []
        places = self._places(lengths.pop(), files)
        ids: list[Any] = [entry.get("id") for entry in entries]
        if not all(isinstance(i, int) for i in ids) or len(set(ids)) < len(ids):
            ids = list(range(1, len(entries) + 1))
        for object_id, masks in zip(ids, lists, strict=True):
            self.objects.add(object_id)
            for index, place in places.items():
                if masks[place] is not None:
                    self._add(index, object_id, masks[place])

    def _match_alone(self, named: list[str | None]) -> Match:
        """Match frames that the entries alone name, where some may have no mask."""
        frames = list(dict.fromkeys(frame for frame in named if frame is not None))
        names, source = self._wanted.names, self._wanted.source
        match = names.match(frames)
        strange = [] if match.in_order else names.strange(frames)
        if strange:
            raise InputError(
                f"{self._path} has masks of {strange[0]}, which is no frame of {source.spec}, as "
                f"{source.names[0]} is: name or number the frames as they are there"
            )
        if not match.in_order and 0 not in match.names and 1 in match.names:
            self.notes.append(
                f"{self._path} has no mask of frame {source.names[0]}: its frames must count from 0"
            )
        return match

    def _files(self, images: list[Entry]) -> dict[str, str]:
        """Names of the images by id; of several videos' images those of this one."""
        ours = [image for image in images if _parent(image.get("file_name")) == self._name]
        for chosen in (images, ours):
            files = {str(image.get("id")): _stem(image.get("file_name")) for image in chosen}
            if files and len(set(files.values())) == len(chosen):
                return files
        raise InputError(
            f"{self._path} has images without names of their own: keep those of {self._name} alone, "
            "each with an id and a file_name"
        )

    def _number_of_video(self, known: set[str], videos: list[Entry]) -> str:
        for video in videos:
            folders = {_parent(file) for file in _file_names(video)}
            if video.get("name") == self._name or self._name in folders:
                return str(video.get("id"))
        if self._name in known:
            return self._name
        raise InputError(
            f"{self._path} holds {max(len(videos), len(known))} videos, none of them known as "
            f"{self._name}: keep that one alone"
        )

    def _places(self, length: int, files: list[str]) -> dict[int, int]:
        """Place in a list of ``length`` segmentations of each selected frame."""
        names = self._wanted.names
        if len(files) == length:
            match = names.match(files)
            names.require(match, self._wanted.needed, f"{self._path} lists no image {{name}}")
            self._tell_order(match)
            return {index: files.index(name) for index, name in match.names.items()}
        found = names.in_order([str(place) for place in range(length)])
        if found is None:
            raise InputError(
                f"{self._path} has segmentations for {length} frames, which {self._wanted.source.spec} "
                "has not: give one, or null, for each frame"
            )
        return {index: int(place) for index, place in found.items()}

    def _add(self, index: int, object_id: int, segmentation: Any) -> None:
        if not isinstance(segmentation, dict) or "counts" not in segmentation:
            raise InputError(
                f"{self._path}: a segmentation must be an RLE, "
                '{"size": [height, width], "counts": ...}; convert polygons with pycocotools'
            )
        size = segmentation.get("size")
        if not isinstance(size, list) or [type(side) for side in size] != [int, int]:
            raise InputError(f'{self._path}: an RLE lacks its "size": [height, width]')
        name = self._wanted.source.names[index]
        if object_id in self.frames[index]:
            raise InputError(
                f"{self._path} has object {object_id} twice in frame {name}: tell objects apart by a "
                "track_id"
            )
        self._wanted.require_size(self._path, tuple(size), f"has a mask of frame {name} that is")
        self.frames[index][object_id] = segmentation

    def _object_of(self, entry: Entry) -> int:
        within = entry.get("attributes")
        both = {**within, **entry} if isinstance(within, dict) else entry
        # Every COCO entry has a category; what tells objects apart comes before it.
        for key in _OBJECT_KEYS:
            if both.get(key) is not None:
                try:
                    return int(both[key])
                except (TypeError, ValueError) as error:
                    raise InputError(
                        f"{self._path}: {key} {both[key]!r} is no number: number the objects"
                    ) from error
        raise InputError(f"{self._path}: a mask lacks its object: give track_id or category_id")

    def _tell_order(self, match: Match) -> None:
        if match.in_order:
            self.notes.append(
                f"the frames in {self._path} are not named as those of {self._wanted.source.spec} and "
                "were taken in order"
            )


@contextmanager
def coco_writer(
    path: Path, source: Source, ids: tuple[int, ...]
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Write the masks of a video as one COCO dict, in a stream; the file appears when it is whole.

    Yields the function that adds a frame: its selected index and its labels, integers (H, W). An
    image's ``id`` is the number of its frame, its ``file_name`` that of the label map; ``track_id`` and
    ``category_id`` are the object's id.
    Raises `InputError` where the file cannot be written.
    """
    height, width = source.size
    size = {"width": width, "height": height}
    video = {"id": 1, "name": path.stem, **size, "length": len(source)}
    images = (
        {"id": number, "file_name": f"{name}.png", **size, "video_id": 1, "frame_id": index}
        for index, (number, name) in enumerate(zip(source.numbers, source.names, strict=True))
    )
    written = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:

        def add(index: int, labels: np.ndarray) -> None:
            nonlocal written
            for object_id in ids:
                mask = labels == object_id
                if not mask.any():
                    continue
                file.write(",\n" if written else "\n")
                written += 1
                file.write(json.dumps(_annotation(written, source.numbers[index], object_id, mask)))

        categories = [{"id": i, "name": f"object {i}"} for i in ids]
        file.write(f'{{"info": {{"description": "segspn"}},\n"videos": [{json.dumps(video)}],\n')
        file.write(f'"categories": {json.dumps(categories)},\n"images": [')
        for position, image in enumerate(images):
            file.write((",\n" if position else "\n") + json.dumps(image))
        file.write('\n],\n"annotations": [')
        yield add
        file.write("\n]}\n")


def _annotation(number: int, image_id: int, object_id: int, mask: np.ndarray) -> Entry:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "id": number,
        "image_id": image_id,
        "video_id": 1,
        "category_id": object_id,
        "track_id": object_id,
        "iscrowd": 0,
        "area": int(np.count_nonzero(mask)),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "segmentation": encode_rle(mask),
    }


def _frame_of(entry: Entry) -> str | None:
    if "file_name" in entry:
        return _stem(entry["file_name"])
    return next((str(entry[key]) for key in _FRAME_KEYS if key in entry), None)


def _is_list(value: Any) -> bool:
    """Whether it is a list of objects, or left out."""
    return value is None or (isinstance(value, list) and all(isinstance(item, dict) for item in value))


def _file_names(video: Entry) -> list[Any]:
    names = video.get("file_names")
    return names if isinstance(names, list) else []


def _parent(file_name: Any) -> str:
    return PurePosixPath(str(file_name).replace("\\", "/")).parent.name


def _stem(file_name: Any) -> str:
    return PurePosixPath(str(file_name).replace("\\", "/")).stem
