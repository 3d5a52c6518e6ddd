from __future__ import annotations

import time

import numpy as np
import pytest
from pages import Page

from segspn.app import Tabs
from segspn.errors import InputError


def test_two_tabs_do_not_mix(serve, clip):
    client = serve(str(clip))
    one, two = Page(client), Page(client)
    assert one.tab != two.tab
    one.post("objects", name="mine")
    one.box(0, 10, 10, 30, 30)
    assert two.state()["objects"] == [] and not two.mask(0).any()
    two.post("objects", name="yours")
    two.box(0, 0, 0, 5, 5)
    assert (one.mask(0) == 1).sum() == 400
    assert one.state()["objects"][0]["name"] == "mine"


def test_a_tab_that_is_not_there(serve):
    answer = serve().get("/api/nonsense/state")
    assert answer.status_code == 404 and "not on the server" in answer.json()["error"]


def test_tabs_are_bounded_and_gone_ones_make_room(engine, clip):
    tabs = Tabs(engine, str(clip), most=2, gone_after=0)
    first, second = tabs.new(), tabs.new()
    tabs.get(first.id)
    third = tabs.new()
    assert tabs.get(first.id) is first and tabs.get(third.id) is third
    with pytest.raises(KeyError):
        tabs.get(second.id)
    assert not second.folder.exists() and first.folder.exists()
    tabs.close()
    assert not first.folder.exists() and not third.folder.exists()


def test_tabs_in_use_are_kept(engine, clip):
    tabs = Tabs(engine, str(clip), most=1)
    first = tabs.new()
    with pytest.raises(InputError, match="1 pages are open already"):
        tabs.new()
    assert tabs.get(first.id) is first
    tabs.close()


def test_opening_another_video_removes_the_files_of_the_one_before(engine, clip, tmp_path):
    tabs = Tabs(engine, None)
    tab = tabs.new()
    for _ in range(2):
        path = tab.new_upload(".mp4")
        path.write_bytes(clip.read_bytes())
        tab.open(path, "clip")
    kept = sorted(path.name for path in tab.folder.iterdir())
    assert len(kept) == 2 and kept[0].startswith("masks-") and kept[1] == path.name
    tabs.close()
    assert clip.exists(), "what was given is not the app's to remove"


def test_news_from_long_ago_is_everything(engine, clip, monkeypatch):
    monkeypatch.setattr("segspn.app.tabs._MOST_NEWS", 3)
    tabs = Tabs(engine, str(clip))
    tab = tabs.new()
    project = tab.require_open().project
    project.add()
    project.paint(0, 1, np.ones((48, 64), bool), on=True)
    tab.start_run(0, "forward")
    while tab.running:
        time.sleep(0.005)
    assert sorted(tab.news(tab.told()["cursor"] - 2)["frames"]) == [10, 11]
    assert sorted(tab.news(0)["frames"]) == list(range(12))
    assert tab.news(tab.told()["cursor"])["frames"] == {}
    tabs.close()
