from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from pages import Page
from PIL import Image


@pytest.fixture
def saved(page, engine) -> bytes:
    """A project with a drawn frame, tracked ones, a removed object and a cut."""
    engine.edge = 65.0
    page.post("objects", name="gone")
    page.post("objects", name="cube")
    page.box(0, 10, 10, 20, 20, 1)
    page.box(0, 40, 30, 50, 40, 2)
    page.box(0, 10, 30, 20, 40, 3)
    page.client.delete(f"/api/{page.tab}/objects/2")
    page.post("run", frame=0, direction="forward")
    page.finish()
    answer = page.get("project.zip")
    assert 'filename="grey_steps.segspn.zip"' in answer.headers["content-disposition"]
    return answer.content


def changed(saved: bytes, index=None, more=None, without=()) -> bytes:
    """The project with another index, more files or fewer."""
    source, target = zipfile.ZipFile(io.BytesIO(saved)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            if name == "project.json" and index is not None:
                told = json.loads(data)
                index(told)
                data = json.dumps(told).encode()
            if name not in without and name not in (more or {}):
                archive.writestr(name, data)
        for name, data in (more or {}).items():
            archive.writestr(name, data)
    return target.getvalue()


def png(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()


def test_a_project_comes_back_as_it_was(page, saved, serve, clip):
    other = Page(serve(str(clip)))
    told = other.upload("work.segspn.zip", saved, "project").json()
    before = page.state()
    assert told["objects"] == before["objects"] and len(told["objects"]) == 2
    assert told["frames"] == before["frames"]
    for frame in (0, 5, 11):
        assert (other.mask(frame) == page.mask(frame)).all()
    assert other.get("project.zip").content  # and can be saved again
    other.box(11, 0, 0, 10, 10)
    other.post("run", frame=11, direction="backward")
    assert other.finish()["phase"] == "done"


def test_an_older_project_tells_of_no_cuts(page, saved):
    old = changed(saved, lambda index: index.pop("cuts"))
    told = page.upload("work.segspn.zip", old, "project").json()
    assert not any(facts["cut"] for facts in told["frames"].values())


def test_it_holds_json_and_png_alone(saved):
    names = zipfile.ZipFile(io.BytesIO(saved)).namelist()
    assert names[0] == "project.json" and all(name.endswith(".png") for name in names[1:])


def test_a_project_needs_its_own_video(saved, serve, tmp_path):
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "0.png")
    page = Page(serve(str(tmp_path)))
    error = page.upload("p.zip", saved, "project").json()["error"]
    assert "grey steps with 12 frames of 64x48" in error and "open its own video" in error


@pytest.mark.parametrize(
    "damage",
    [
        lambda z: b"no zip at all",
        lambda z: z[:200],
        lambda z: changed(z, without=["project.json"]),
        lambda z: changed(z, without=["drawn/000000.png"]),
        lambda z: changed(z, more={"../../evil.png": b"x"}),
        lambda z: changed(z, more={"state.pkl": b"x"}),
        lambda z: changed(z, more={"drawn/000000.png": b"x"}),
        lambda z: changed(z, more={"drawn/000000.png": b"x" * 10_000_000}),
        lambda z: changed(z, more={"drawn/000000.png": png(np.zeros((5, 5), np.uint8))}),
        lambda z: changed(z, more={"drawn/000000.png": png(np.full((48, 64), 77, np.uint8))}),
        lambda z: changed(z, more={"scores/000001_1.png": png(np.zeros((5, 5, 3), np.uint8))}),
        lambda z: changed(z, lambda i: i.update(format="other")),
        lambda z: changed(z, lambda i: i.update(version=99)),
        lambda z: changed(z, lambda i: i.update(objects=[])),
        lambda z: changed(z, lambda i: i.update(objects=3)),
        lambda z: changed(z, lambda i: i["objects"].append(i["objects"][0])),
        lambda z: changed(z, lambda i: i["drawn"].update({"99": [1]})),
        lambda z: changed(z, lambda i: i["drawn"].update({"x/../y": [1]})),
        lambda z: changed(z, lambda i: i.update(cuts=[99])),
        lambda z: changed(z, lambda i: i.update(cuts=7)),
        lambda z: changed(z, lambda i: i["objects"][0].update(id=-1)),
        lambda z: changed(z, lambda i: i["objects"][0].update(colour="red")),
    ],
)
def test_damaged_or_hostile_projects_are_refused(saved, page, damage):
    before = page.mask(4)
    answer = page.upload("p.zip", damage(saved), "project")
    assert answer.status_code == 422 and answer.json()["error"]
    assert (page.mask(4) == before).all(), "the open work stays"
