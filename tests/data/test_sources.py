"""Every layout of training data gives the same pictures and label maps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segspn.data import ClipConfig, DataConfig, Stills, draw_clip, open_data
from segspn.data.check import check_data
from segspn.data.coco import Outlines
from segspn.data.stills import LARGEST, Still
from segspn.errors import InputError
from segspn.tracks.rle import encode_rle
from segspn.video.labels import write_labels

H, W = 90, 120


def mask() -> np.ndarray:
    labels = np.zeros((H, W), np.uint8)
    labels[20:60, 30:70] = 1
    labels[62:80, 80:110] = 2
    return labels


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return path


def annotate(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(path, labels)


@pytest.fixture
def folder(tmp_path: Path) -> DataConfig:
    for i in range(3):
        picture(tmp_path / f"plain/photos/{i}.png")
        annotate(tmp_path / f"plain/labels/{i}.png", mask())
    picture(tmp_path / "plain/photos/without_mask.jpeg")
    return DataConfig(root="plain", images="photos", masks="labels")


@pytest.fixture
def davis(tmp_path: Path) -> DataConfig:
    root = tmp_path / "DAVIS"
    for name in ("bear", "left-out"):
        for i in range(6):
            picture(root / f"JPEGImages/480p/{name}/{i:05d}.jpg")
            annotate(root / f"Annotations/480p/{name}/{i:05d}.png", np.roll(mask(), i, 1))
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/train.txt").write_text("bear\n")
    return DataConfig(root="DAVIS", kind="davis")


@pytest.fixture
def youtube(tmp_path: Path) -> DataConfig:
    for name in ("0a49", "0b12"):
        for i in range(0, 30, 5):
            picture(tmp_path / f"ytvos/train/JPEGImages/{name}/{i:05d}.jpg")
            annotate(tmp_path / f"ytvos/train/Annotations/{name}/{i:05d}.png", mask())
    return DataConfig(root="ytvos/train", kind="youtube_vos", name="ytvos")


@pytest.fixture
def coco(tmp_path: Path) -> DataConfig:
    picture(tmp_path / "coco/val/a.jpg")
    picture(tmp_path / "coco/val/nothing.jpg")
    box = [30, 20, 70, 20, 70, 60, 30, 60]
    crowd = {"image_id": 7, "iscrowd": 1, "segmentation": encode_rle(mask() >= 0), "area": 1e4}
    instances = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": H, "width": W},
            {"id": 8, "file_name": "nothing.jpg", "height": H, "width": W},
        ],
        "annotations": [
            {"image_id": 7, "segmentation": encode_rle(mask() == 2), "area": 540, "iscrowd": 0},
            {"image_id": 7, "segmentation": [box], "area": 1600},
            crowd,
        ],
    }
    (tmp_path / "coco/instances.json").write_text(json.dumps(instances))
    return DataConfig(root="coco", kind="coco", images="val", masks="instances.json")


@pytest.mark.parametrize(
    ("kind", "videos", "frames"), [("folder", 3, 3), ("davis", 1, 6), ("youtube", 2, 12), ("coco", 1, 1)]
)
def test_every_layout_gives_pictures_and_ids(
    kind: str, videos: int, frames: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    entry: DataConfig = request.getfixturevalue(kind)
    stills = open_data([entry], tmp_path)
    assert (len(stills.items[entry.label]), len(stills)) == (videos, frames)
    image, labels = stills.all()[0].load()
    assert image.shape == (H, W, 3) and image.dtype == labels.dtype == np.uint8
    assert np.array_equal(labels, mask())
    assert check_data(stills, 0.0) == []


def test_polygons_are_drawn_as_pycocotools_draws_them() -> None:
    tools = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(10, 42, 9)
        points = np.stack((W / 2 + radii * np.cos(angles), H / 2 + radii * np.sin(angles)), 1)
        polygons = [points.ravel().tolist(), [1.0, 1.0, 9.5, 1.0, 9.5, 8.0]]
        theirs = tools.decode(tools.merge(tools.frPyObjects(polygons, H, W))) > 0
        ours = Outlines("", (H, W), (polygons,)).draw((H, W)) > 0
        # Theirs too is only right to about half a pixel at a contour.
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.95
        assert abs(int(ours.sum()) - int(theirs.sum())) < 0.05 * theirs.sum()


def test_sources_are_mixed_by_weight_and_a_stage_has_its_own(
    folder: DataConfig, youtube: DataConfig, tmp_path: Path
) -> None:
    entries = [folder, youtube]
    assert set(open_data(entries, tmp_path).sources) == {"plain", "ytvos"}
    assert open_data(entries, tmp_path, {"plain": 0.0}).sources == ["ytvos"]
    with pytest.raises(InputError, match="no data is called 'other'; there are: plain, ytvos"):
        open_data(entries, tmp_path, {"other": 1.0})
    with pytest.raises(InputError, match="no data has a weight above 0"):
        open_data(entries, tmp_path, {"plain": 0.0, "ytvos": 0.0})
    with pytest.raises(InputError, match="same name"):
        open_data([folder, folder], tmp_path)


def test_clips_of_videos_are_cut_out_of_them(davis: DataConfig, tmp_path: Path) -> None:
    stills = open_data([davis], tmp_path)
    # The objects move by a pixel a frame or, backwards or skipping, by a few; nothing is pasted.
    config = ClipConfig(size=64, frames=3, real=1.0, light=0.0)
    for k in range(5):
        clip = draw_clip(stills, np.random.default_rng(k), config)
        assert clip.images.shape == (3, 64, 64, 3) and not clip.exact
        areas = (clip.labels > 0).mean((1, 2))
        assert areas.min() > 0.5 * areas.max() > 0
    made = [draw_clip(stills, np.random.default_rng(k), ClipConfig(64, real=0)) for k in range(9)]
    assert any(clip.exact for clip in made)


def test_contours_of_sharp_masks_are_exact(folder: DataConfig, tmp_path: Path) -> None:
    in_place = ClipConfig(size=64, frames=1, paste=0.0, occluder=0.0, distractor=0.0)
    for sharp in (False, True):
        stills = open_data([replace(folder, sharp=sharp)], tmp_path)
        assert draw_clip(stills, np.random.default_rng(0), in_place).exact == sharp


def test_void_is_background_but_a_white_mask_is_an_object(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    void = mask()
    void[:5] = 255
    palette, grey, white = (tmp_path / f"{n}.png" for n in ("palette", "grey", "white"))
    shown = Image.fromarray(void)
    shown.putpalette(list(range(256)) * 3)
    shown.save(palette)
    cv2.imwrite(str(grey), void)
    cv2.imwrite(str(white), (mask() == 1).astype(np.uint8) * 255)
    for path in (palette, grey):
        assert np.array_equal(Still("s", image, path).load()[1], mask())
    assert set(np.unique(Still("s", image, white).load()[1])) == {0, 255}
    Image.fromarray(np.full((H, W), 300, np.uint16)).save(grey)
    with pytest.raises(InputError, match="id 300 is too large; renumber"):
        Still("s", image, grey).load()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_large_pictures_come_shrunk_with_their_masks(tmp_path: Path, suffix: str) -> None:
    size = (2 * LARGEST + 300, 3 * LARGEST)
    labels = np.zeros(size, np.uint8)
    labels[400:1200, 500:1500] = 3
    image = tmp_path / f"big{suffix}"
    cv2.imwrite(str(image), labels[..., None].repeat(3, 2) * 80)
    cv2.imwrite(str(tmp_path / "mask.png"), labels)
    shown, found = Still("s", image, tmp_path / "mask.png").load()
    assert min(found.shape) == LARGEST and shown.shape[:2] == found.shape
    assert ((shown[..., 0] > 120) != (found == 3)).mean() < 0.01
    cv2.imwrite(str(tmp_path / "mask.png"), labels[:-1])
    with pytest.raises(InputError, match="they must agree"):
        Still("s", image, tmp_path / "mask.png").load()


def test_the_cache_gives_the_same_and_stays_bounded(folder: DataConfig, tmp_path: Path) -> None:
    pair = 4 * H * W
    stills = open_data([folder], tmp_path, cache_mb=2.5 * pair / 1e6)
    for still in [*stills.all(), *stills.all()]:
        image, labels = stills.load(still)
        assert np.array_equal(labels, mask()) and np.array_equal(image, still.load()[0])
        assert stills._cache.held <= 2.5 * pair
    assert stills.load(still)[0] is stills.load(still)[0]
    with pytest.raises(ValueError, match="read-only"):
        labels[0, 0] = 1


def test_what_is_missing_or_damaged_is_named(
    folder: DataConfig, coco: DataConfig, davis: DataConfig, tmp_path: Path
) -> None:
    def told(entry: DataConfig) -> str:
        with pytest.raises(InputError) as caught:
            stills = open_data([entry], tmp_path)
            stills.all()[0].load()
        return str(caught.value)

    assert "nowhere: no such folder" in told(DataConfig(root="nowhere"))
    assert "plain/images: no such folder" in told(DataConfig(root="plain"))
    assert "no mask matches an image" in told(DataConfig(root="plain", images="photos", masks="photo"))
    assert "no such subset list" in told(DataConfig(root="DAVIS", kind="davis", subset="2017/test"))
    assert "year/list" in told(DataConfig(root="DAVIS", kind="davis", subset="train"))
    assert "Annotations: no such folder" in told(DataConfig(root="plain", kind="youtube_vos"))
    assert "name the JSON file" in told(DataConfig(root="coco", kind="coco"))
    broken = tmp_path / "coco/instances.json"
    instances = json.loads(broken.read_text())
    instances["images"][0]["width"] = 5
    broken.write_text(json.dumps(instances))
    assert "a.jpg: the JSON says 5x90, the image is 120x90" in told(coco)
    broken.write_text("[]")
    assert "instances.json: not COCO instances JSON" in told(coco)


def test_bad_samples_are_dropped_by_name_until_they_are_too_many(
    folder: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "plain/labels/1.png"), np.zeros((H, W), np.uint8))
    stills: Stills = open_data([folder], tmp_path)
    before = stills.digest()
    with pytest.raises(InputError, match="1 of 3 samples are bad.*labels/1.png: no object"):
        check_data(stills, 0.2)
    assert len(check_data(stills, 0.5)) == 1
    assert "skipped: " in capsys.readouterr().err
    assert len(stills) == 2 and stills.digest() != before
