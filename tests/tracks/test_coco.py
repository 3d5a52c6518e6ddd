"""Run-length encoded masks in JSON: COCO, YouTube-VIS, and what we write ourselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from clips import SIZE, make_frames, make_video, mask_labels

from segspn.errors import InputError
from segspn.tracks import coco_writer, encode_rle
from segspn.video import open_source


def shifted(number):
    return np.roll(mask_labels(), number, axis=1)


def rle(number, object_id, compressed=True):
    encoded = encode_rle(shifted(number) == object_id)
    if not compressed:
        flat = np.ravel(shifted(number) == object_id, order="F")
        edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
        encoded["counts"] = np.diff([0, *edges, flat.size]).tolist()
    return encoded


def results(numbers=range(6), frame="image_id", named=int, **more):
    """COCO results of objects 2 and 7; object 2 is not there in frame 4."""
    return [
        {frame: named(n), "category_id": 1, "track_id": i, "segmentation": rle(n, i), **more}
        for n in numbers
        for i in (2, 7)
        if (n, i) != (4, 2)
    ]


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def assert_follows(frames, numbers=range(6), ids=(2, 7)):
    for masks, number in zip(frames, numbers, strict=True):
        assert sorted(masks) == [
            new for new, old in zip(ids, (2, 7), strict=True) if (number, old) != (4, 2)
        ]
        for new, old in zip(ids, (2, 7), strict=True):
            if new in masks:
                assert np.array_equal(masks[new], 255 * (shifted(number) == old))


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ("image_id", int),
        ("image_id", "{:05d}".format),
        ("frame_index", int),
        ("file_name", "clip/{:05d}.jpg".format),
    ],
)
def test_a_list_of_results(read, tmp_path, frame, named):
    tracks, frames = read(write(tmp_path / "r.json", results(frame=frame, named=named, score=0.3)))
    assert tracks.kind == "run-length encoded masks" and tracks.ids == (2, 7) and tracks.notes == ()
    assert_follows(frames)
    assert_follows(read(tmp_path / "r.json", start=1, stride=2)[1], (1, 3, 5))


def test_counts_as_a_list(read, tmp_path):
    entries = results()
    for entry in entries:
        entry["segmentation"] = rle(entry["image_id"], entry["track_id"], compressed=False)
    assert_follows(read(write(tmp_path / "r.json", entries))[1])


def test_a_category_tells_objects_apart_where_nothing_else_does(read, tmp_path):
    entries = results()
    for entry in entries:
        entry["category_id"] = entry.pop("track_id")
    assert_follows(read(write(tmp_path / "r.json", entries))[1])
    for entry in entries:
        entry["attributes"] = {"track_id": entry["category_id"] - 2}  # 0 is background's
        entry["category_id"] = 1
    tracks, frames = read(write(tmp_path / "r.json", entries))
    assert "count from 0" in tracks.notes[0]
    assert_follows(frames, ids=(1, 6))


def coco(entries, ids=lambda n: 100 + n, files="{:05d}.jpg"):
    return {
        "images": [{"id": ids(n), "file_name": files.format(n)} for n in range(6)],
        "annotations": [{**e, "id": i, "image_id": ids(e["image_id"])} for i, e in enumerate(entries)],
    }


def test_a_coco_dict_names_its_images(read, tmp_path):
    tracks, frames = read(write(tmp_path / "r.json", coco(results())))
    assert tracks.notes == ()
    assert_follows(frames)
    # Names that tell nothing: the images in order.
    tracks, frames = read(write(tmp_path / "r.json", coco(results(), files="shot{}.jpg")))
    assert "taken in order" in tracks.notes[0]
    assert_follows(frames)


def test_a_coco_dict_of_several_videos(read, tmp_path):
    ours = coco(results(), files="clip/{:05d}.jpg")
    ours["images"] += [{"id": 500 + n, "file_name": f"other/{n:05d}.jpg"} for n in range(6)]
    ours["annotations"] += [{**entry, "image_id": 500 + entry["image_id"]} for entry in results()]
    assert_follows(read(write(tmp_path / "r.json", ours))[1])


def test_image_ids_that_count_from_1(read, tmp_path):
    entries = [{**entry, "image_id": entry["image_id"] + 1} for entry in results()]
    tracks, frames = read(write(tmp_path / "r.json", entries))
    assert "taken in order" in tracks.notes[0]
    assert_follows(frames)
    # The same where the last frame shows nothing can't be told from a first frame that does.
    last = [entry for entry in entries if entry["image_id"] < 6]
    tracks, _ = read(write(tmp_path / "r.json", last))
    assert "has no mask of frame 00000: its frames must count from 0" in tracks.notes[0]


def vis(video_id=3, numbers=range(6)):
    """YouTube-VIS results: one entry per object."""
    lists = {i: [None if (n, i) == (4, 2) else rle(n, i) for n in numbers] for i in (2, 7)}
    return [
        {"video_id": video_id, "category_id": 5, "score": 0.4, "segmentations": lists[i]} for i in (2, 7)
    ]


def test_youtube_vis_results(read, tmp_path):
    tracks, frames = read(write(tmp_path / "r.json", vis()))
    assert tracks.ids == (1, 2)
    assert_follows(frames, ids=(1, 2))
    assert_follows(read(tmp_path / "r.json", start=1, stride=2)[1], (1, 3, 5), ids=(1, 2))
    part = write(tmp_path / "part.json", vis(numbers=(1, 3, 5)))
    assert_follows(read(part, start=1, stride=2)[1], (1, 3, 5), ids=(1, 2))


def test_youtube_vis_results_of_several_videos(read, tmp_path):
    assert_follows(read(write(tmp_path / "r.json", vis("clip") + vis("dog")))[1], ids=(1, 2))
    videos = [
        {"id": 8, "file_names": [f"clip/{n:05d}.jpg" for n in range(6)]},
        {"id": 9, "file_names": [f"dog/{n:05d}.jpg" for n in range(6)]},
    ]
    entries = [{**e, "id": i} for i, e in zip((2, 7), vis(8), strict=True)] + vis(9)
    content = {"videos": videos, "annotations": entries}
    assert_follows(read(write(tmp_path / "r.json", content))[1])
    with pytest.raises(InputError, match="holds 2 videos, none of them known as clip"):
        read(write(tmp_path / "r.json", vis(3) + vis(4)))


@pytest.mark.parametrize("of", [make_frames, make_video])
def test_what_we_write_is_read_again(read, tmp_path, of):
    frames = of(tmp_path / ("film.mp4" if of is make_video else "film"), 6)
    source = open_source(frames, start=1)
    with coco_writer(tmp_path / "rle.json", source, (2, 7)) as add:
        for index, number in enumerate(source.numbers):
            labels = shifted(number)
            if number == 4:
                labels[labels == 2] = 0
            add(index, labels)
    tracks, found = read(tmp_path / "rle.json", frames, start=1)
    assert tracks.notes == ()
    assert_follows(found, range(1, 6))


def test_what_we_write_is_coco(tmp_path):
    source = open_source(make_frames(tmp_path / "clip", 2))
    with coco_writer(tmp_path / "rle.json", source, (2, 7)) as add:
        add(0, shifted(0))
        add(1, np.zeros(SIZE, np.int32))
    content = json.loads((tmp_path / "rle.json").read_text())
    assert content["images"][1] == {
        "id": 1, "file_name": "00001.png", "width": 64, "height": 48, "video_id": 1, "frame_id": 1,
    }  # fmt: skip
    assert [entry["track_id"] for entry in content["annotations"]] == [2, 7]
    first = content["annotations"][0]
    assert first["bbox"] == [8, 12, 24, 12] and first["area"] == 24 * 12
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    theirs = COCO(str(tmp_path / "rle.json"))
    (number,) = theirs.getAnnIds(imgIds=[0], catIds=[7])
    assert np.array_equal(theirs.annToMask(theirs.anns[number]), shifted(0) == 7)


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path):
    source = open_source(make_frames(tmp_path / "clip", 2))
    with pytest.raises(KeyboardInterrupt), coco_writer(tmp_path / "rle.json", source, (2,)) as add:
        add(0, shifted(0))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def changed(**entry):
    return [*results()[:-1], {**results()[-1], **entry}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[{", "is no readable JSON file"),
        ({"images": []}, "is not of COCO's form"),
        ([1, 2], "is not of COCO's form"),
        ({"images": ["00000.jpg"], "annotations": []}, "is not of COCO's form"),
        ([], "marks no object in any frame"),
        (changed(image_id=6), r"has masks of 6, which is no frame of .*clip, as 00000 is"),
        ([{**results()[0], "image_id": None}, *results()], "masks of None, which is no frame"),
        ([{k: v for k, v in e.items() if k != "image_id"} for e in results()], "lacks its frame"),
        (changed(track_id=2), "has object 2 twice in frame 00005: .* track_id"),
        (changed(track_id="dog"), "track_id 'dog' is no number: number the objects"),
        (changed(track_id=-3), "has an object -3: number objects from 1"),
        ([{"image_id": 0, "segmentation": rle(0, 2)}], "lacks its object: give track_id or category"),
        (changed(segmentation=[[1, 2, 3, 4, 5, 6]]), "must be an RLE.*convert polygons"),
        (changed(segmentation={"counts": "0"}), 'an RLE lacks its "size"'),
        (
            changed(segmentation=encode_rle(np.ones((24, 32), bool))),
            "frame 00005 that is 32x24 but 64x48",
        ),
        (changed(segmentation={"size": [48, 64], "counts": "12"}), "object 7 in frame 00005 is damaged"),
        (changed(segmentation={"size": [48, 64], "counts": {}}), "object 7 in frame 00005 is damaged"),
        (vis(numbers=range(5)), "has segmentations for 5 frames, which .*clip has not"),
        ([vis()[0], {**vis()[1], "segmentations": None}], "each entry needs segmentations"),
        ({**coco(results()), "images": [{"id": 1, "file_name": "a"}]}, "image_id 100 is not among"),
        ({**coco(results()), "images": [{"id": 100 + n} for n in range(6)]}, "images without names"),
    ],
)
def test_files_that_are_wrong(read, tmp_path, content, told):
    path = tmp_path / "r.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=told) as caught:
        read(path)
    assert "\n" not in str(caught.value) and "r.json" in str(caught.value)


def test_a_coco_dict_that_lacks_an_image(read, tmp_path):
    content = coco(results(range(5)))
    del content["images"][5]
    with pytest.raises(InputError, match="lists no image 00005: every frame needs one"):
        read(write(tmp_path / "r.json", content))
    assert_follows(read(tmp_path / "r.json", end=5)[1], range(5))
