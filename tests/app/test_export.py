from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from pages import COUNT, SIZE
from PIL import Image

from segspn.tracks import open_tracks
from segspn.video import open_source


@pytest.fixture
def finished(page):
    """Frames 2 to the last, two objects, the first one red and the second one of colour 5."""
    page.post("objects", name="cube")
    page.client.patch(f"/api/{page.tab}/objects/2", json={"colour": 5})
    page.box(2, 10, 10, 20, 20, 1)
    page.box(2, 10, 30, 20, 40, 2)
    page.post("run", frame=2, direction="forward")
    page.finish()
    return page


def export(page, *save: str) -> dict[str, bytes]:
    assert page.post("export", save=list(save)).status_code == 200
    job = page.finish()
    assert job["phase"] == "done", job["message"]
    answer = page.get("results.zip")
    assert answer.status_code == 200
    assert 'filename="grey_steps-segspn.zip"' in answer.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    return {name: archive.read(name) for name in archive.namelist()}


def test_everything_of_segment(finished, tmp_path):
    files = export(finished, "labels", "overlay", "scores", "cutouts", "rle")
    names = [f"{i:05d}" for i in range(2, COUNT)]
    root = "grey steps"
    assert set(files) == {
        *(f"{root}/{root}/{name}.png" for name in names),
        *(f"{root}/{root}_scores/{name}_{i}.png" for name in names for i in (1, 5)),
        *(f"{root}/{root}_cutouts/{name}_{i}.png" for name in names for i in (1, 5)),
        f"{root}/{root}.mp4",
        f"{root}/{root}_sheet.png",
        f"{root}/{root}_rle.json",
        f"{root}/objects.json",
    }
    picture = Image.open(io.BytesIO(files[f"{root}/{root}/00004.png"]))
    assert picture.mode == "P" and picture.getpalette()[3:6] == [128, 0, 0]
    labels = np.asarray(picture)
    shown = finished.mask(4)
    assert set(np.unique(labels)) == {0, 1, 5}, "numbers are colours"
    assert ((labels == 1) == (shown == 1)).all() and ((labels == 5) == (shown == 2)).all()
    score = np.asarray(Image.open(io.BytesIO(files[f"{root}/{root}_scores/00004_5.png"])))
    assert set(np.unique(score)) == {0, 242} and ((score > 0) == (labels == 5)).all()
    assert json.loads(files[f"{root}/objects.json"]) == [
        {"id": 1, "name": "ball"},
        {"id": 5, "name": "cube"},
    ]
    film = tmp_path / "overlay.mp4"
    film.write_bytes(files[f"{root}/{root}.mp4"])
    assert len(open_source(film)) == COUNT - 2 and open_source(film).size == SIZE


def test_rle_is_read_by_refine(finished, clip, tmp_path):
    path = tmp_path / "rle.json"
    path.write_bytes(export(finished, "rle")["grey steps/grey steps_rle.json"])
    tracks = open_tracks(path, open_source(clip, 2), "grey steps")
    assert tracks.ids == (1, 5)
    masks = next(iter(tracks.read(0)))
    assert ((masks[5] > 0) == (finished.mask(2) == 2)).all()


def test_drawn_frames_have_certain_scores(finished):
    files = export(finished, "scores")
    score = np.asarray(Image.open(io.BytesIO(files["grey steps/grey steps_scores/00002_1.png"])))
    assert set(np.unique(score)) == {0, 255}
    assert "grey steps/grey steps/00002.png" not in files, "labels were not asked for"


def test_removed_objects_are_left_out(finished):
    finished.client.delete(f"/api/{finished.tab}/objects/1")
    files = export(finished, "labels", "cutouts")
    assert "grey steps/grey steps_cutouts/00004_1.png" not in files
    labels = np.asarray(Image.open(io.BytesIO(files["grey steps/grey steps/00004.png"])))
    assert set(np.unique(labels)) == {0, 5}


def test_nothing_to_export(page):
    assert "no masks" in page.post("export", save=["labels"]).json()["error"]
    page.box(0, 10, 10, 20, 20)
    for save in ([], ["stages"], ["../x"], "labels", None):
        assert page.post("export", save=save).status_code == 422
    assert page.get("results.zip").status_code == 404
