from __future__ import annotations

import cv2
import numpy as np
import pytest
from pages import COUNT, SIZE, Page
from PIL import Image


def test_page_and_its_files_are_served(serve):
    client = serve()
    html = client.get("/").text
    assert "http://" not in html and "https://" not in html, "the page must work offline"
    for name in ("main.js", "style.css", "icons.svg"):
        assert client.get(f"/page/{name}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/page/..%2fserver.py",
        "/page/%2fetc/passwd",
        "/page//etc/passwd",
        "/api/{tab}/frames/../../../../etc/passwd",
        "/api/{tab}/frames/%2e%2e%2f%2e%2e%2fetc%2fpasswd.jpg",
        "/api/{tab}/masks/..%2f..%2fdrawn.png",
    ],
)
def test_no_path_leads_out(page, path):
    answer = page.client.get(path.format(tab=page.tab))
    assert answer.status_code == 404
    assert "root:" not in answer.text and "import" not in answer.text


def test_given_video_is_open(page):
    video = page.state()["video"]
    assert (video["name"], video["frames"], video["size"]) == ("grey steps", COUNT, list(SIZE))


def test_any_frame_in_any_order(page):
    for frame in (0, 11, 3, 2, 1, 7, 7):
        answer = page.get(f"frames/{frame}.jpg")
        picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (*SIZE, 3)
        assert abs(float(picture.mean()) - 10 * frame) < 4


def test_a_frame_that_is_not_there(page):
    answer = page.get(f"frames/{COUNT}.jpg")
    assert answer.status_code == 422 and "frames are 0 to 11" in answer.json()["error"]


def test_upload_and_open_another(page, clip):
    page.box(0, 10, 10, 20, 20)
    answer = page.upload("../../sneaky/näme (1).mp4", clip.read_bytes())
    assert answer.status_code == 200
    told = answer.json()
    assert told["video"]["name"] == "näme_1" and told["objects"] == [] and told["frames"] == {}
    assert not page.mask(0).any()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("notes.txt", b"just some text", "no video"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no video"),
        ("list.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", "no video"),
        ("empty.mp4", b"", "no video"),
        ("broken.mp4", b"\0\0\0\x18ftypisom" + b"\0" * 800, "broken.mp4"),
    ],
)
def test_what_is_no_video_is_told_in_plain_words(page, name, data, words):
    answer = page.upload(name, data)
    assert answer.status_code == 422
    assert words in answer.json()["error"] and "/tmp" not in answer.json()["error"]
    assert page.state()["video"]["name"] == "grey steps", "the open video stays"


@pytest.mark.parametrize("chunked", [False, True])
def test_upload_has_a_limit(serve, clip, chunked):
    page = Page(serve(max_upload=1000))
    data = clip.read_bytes()
    assert len(data) > 1000
    content = iter([data[:900], data[900:]]) if chunked else data
    answer = page.client.post(f"/api/{page.tab}/video", content=content)
    assert answer.status_code == 413 and "--max-upload" in answer.json()["error"]
    assert page.state()["video"] is None


def test_before_a_video_is_open(serve):
    page = Page(serve())
    assert page.state()["video"] is None
    for answer in (page.get("frames/0.jpg"), page.box(0, 0, 0, 9, 9), page.get("project.zip")):
        assert answer.status_code == 422 and answer.json()["error"] == "open a video first"


def test_brush_and_eraser(page):
    page.post(
        "edit", frame=2, object=1, tool="brush", points=[[10, 10], [30, 10]], radius=4
    )
    mask = page.mask(2)
    assert mask[10, 20] == 1 and mask[7, 20] == 1 and mask[20, 20] == 0
    assert (mask > 0).sum() == pytest.approx(20 * 8 + np.pi * 16, rel=0.12)
    page.post("edit", frame=2, object=1, tool="eraser", points=[[20, 10]], radius=3)
    assert page.mask(2)[10, 20] == 0 and page.mask(2)[10, 11] == 1
    assert not page.mask(1).any()


def test_box_and_clicks_add_up(page):
    page.box(0, 10, 10, 30, 30)
    assert (page.mask(0) == 1).sum() == 400
    click = {"frame": 0, "object": 1, "tool": "click"}
    page.post("edit", **click, points=[[20, 20]], on=False)
    assert page.mask(0)[20, 20] == 0 and page.mask(0)[11, 11] == 1
    page.post("edit", **click, points=[[50, 20]])
    mask = page.mask(0)
    assert mask[20, 50] == 1 and mask[20, 20] == 0, "the earlier click still counts"


def test_undo_takes_back_one_thing_at_a_time(page):
    page.box(0, 10, 10, 30, 30)
    page.box(3, 10, 10, 20, 20)
    page.client.delete(f"/api/{page.tab}/objects/1")
    assert not page.mask(0).any() and page.state()["objects"] == []
    assert page.post("undo").json()["objects"][0]["name"] == "ball"
    assert (page.mask(3) == 1).sum() == 100
    assert page.post("undo").json()["frame"] == 3
    assert not page.mask(3).any() and (page.mask(0) == 1).sum() == 400
    assert page.post("undo").json()["undo"] is False
    assert page.post("undo").status_code == 422


def test_objects_do_not_share_pixels(page):
    page.post("objects")
    page.box(0, 10, 10, 30, 30, 1)
    page.box(0, 20, 20, 40, 40, 2)
    mask = page.mask(0)
    assert (mask == 2).sum() == 400 and (mask == 1).sum() == 300
    assert page.state()["frames"]["0"]["drawn"] == [1, 2]


def test_names_and_colours(page):
    page.post("objects")
    alter = lambda **what: page.client.patch(f"/api/{page.tab}/objects/2", json=what)  # noqa: E731
    assert alter(name="  big\n dog\x00 ").json()["objects"][1]["name"] == "big dog"
    assert alter(colour=9).json()["objects"][1]["colour"] == 9
    for bad in ({"name": " "}, {"colour": 1}, {"colour": 0}, {"colour": 255}, {"name": 3}):
        assert alter(**bad).status_code == 422
    assert page.post("objects").json()["objects"][2]["colour"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {"tool": "laser"},
        {"frame": 99},
        {"frame": "0"},
        {"object": 7},
        {"points": []},
        {"points": [[1]]},
        {"points": [["a", 2]]},
        {"points": [[1e9, 2]]},
        {"points": "all"},
        {"radius": -1e9},
        {"tool": "box", "points": [[5, 5], [6, 6]]},
    ],
)
def test_bad_strokes_are_told(page, body):
    stroke = {"frame": 0, "object": 1, "tool": "brush", "points": [[5, 5]], "radius": 3}
    answer = page.post("edit", **{**stroke, **body})
    assert answer.status_code == 422 and answer.json()["error"]
    assert page.state()["frames"] == {}


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"x" * (2 << 20)])
def test_bodies_that_are_no_json(page, body):
    answer = page.client.post(f"/api/{page.tab}/edit", content=body)
    assert answer.status_code in (400, 413) and answer.json()["error"]


def test_large_frames_are_shown_smaller(serve, tmp_path):
    folder = tmp_path / "wide"
    folder.mkdir()
    Image.fromarray(np.zeros((100, 3200, 3), np.uint8)).save(folder / "0.png")
    page = Page(serve(str(folder)))
    assert page.state()["video"]["shown"] == [50, 1600]
    page.post("objects")
    page.box(0, 0, 0, 1600, 100)
    mask = page.mask(0)
    assert mask.shape == (50, 1600) and mask[:, :800].all() and not mask[:, 801:].any()
