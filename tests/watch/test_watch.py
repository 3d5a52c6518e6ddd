"""The page of `segspn watch`, asked over HTTP as a browser asks."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from segspn.cli import app
from segspn.pipeline import Segmenter
from segspn.watch import Watch, WatchServer

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(count: int) -> Iterator[np.ndarray]:
    """Frames of a blue disc that moves over grey."""
    for k in range(count):
        frame = np.full((96, 128, 3), 110, np.uint8)
        cv2.circle(frame, (50 + 2 * k, 45), 22, (30, 60, 210), -1)
        yield frame


class Source:
    """The disc, one frame for each time that it is allowed to."""

    def __init__(self, count: int) -> None:
        self.count, self.allowed = count, threading.Semaphore(0)

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in drawn(self.count):
            assert self.allowed.acquire(timeout=60)
            yield frame


@pytest.fixture
def server() -> Iterator[WatchServer]:
    with WatchServer(Watch(Segmenter("default", "cpu")), port=0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def ask(server: WatchServer, method: str, path: str, **more) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        connection.request(method, path, **more)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def post(server: WatchServer, path: str, value: object) -> int:
    body, headers = json.dumps(value), {"Content-Type": "application/json"}
    return ask(server, "POST", path, body=body, headers=headers)[0]


def next_picture(stream: http.client.HTTPResponse) -> np.ndarray:
    length = 0
    while line := stream.readline().strip():
        if line.lower().startswith(b"content-length"):
            length = int(line.split(b":")[1])
    picture = cv2.imdecode(np.frombuffer(stream.read(length), np.uint8), cv2.IMREAD_COLOR)
    stream.readline()
    return picture[..., ::-1]


def test_a_box_on_the_page_starts_an_object(server: WatchServer) -> None:
    source = Source(4)
    loop = threading.Thread(target=server.watch.run, args=(source,), daemon=True)
    loop.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", "/stream")
    stream = connection.getresponse()
    assert stream.getheader("Content-Type", "").startswith("multipart/x-mixed-replace")
    source.allowed.release()
    plain = next_picture(stream)
    assert plain.shape == (96, 128, 3) and abs(int(plain[5, 5, 0]) - 110) < 4
    assert post(server, "/box", [28 / 128, 23 / 96, 72 / 128, 67 / 96]) == 200
    source.allowed.release()
    followed = next_picture(stream).astype(int)
    # The disc is drawn over in the object's colour, the ground is as it was.
    assert np.abs(followed[45, 52] - (30, 60, 210)).max() > 20
    assert abs(followed[90, 120, 0] - 110) < 4
    assert json.loads(ask(server, "GET", "/status")[1])["ids"] == [1]
    assert post(server, "/clear", None) == 200
    source.allowed.release()
    assert np.abs(next_picture(stream)[45, 54].astype(int) - (30, 60, 210)).max() < 20
    assert post(server, "/box", [0.5, 0.5, 0.5, 0.5]) == 200  # holds nothing
    source.allowed.release()
    next_picture(stream)
    loop.join(60)
    told = json.loads(ask(server, "GET", "/status")[1])
    assert told["ended"] and "holds no pixel" in told["note"] and told["ids"] == []
    connection.close()


def test_the_page_is_for_this_machine_alone(server: WatchServer) -> None:
    status, page = ask(server, "GET", "/")
    assert status == 200 and b"/stream" in page
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "GET", "/", headers={"Host": "evil.example:80"})[0] == 403
    assert ask(server, "GET", "/etc/passwd")[0] == 404
    # A form on another site can send text, but not JSON.
    assert ask(server, "POST", "/clear", body="null", headers={"Content-Type": "text/plain"})[0] == 415
    for wrong in ([0, 0, 1], [0, 0, 1, 2], ["0", 0, 1, 1], {"a": 1}):
        assert post(server, "/box", wrong) == 400


def test_the_command_with_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for k, frame in enumerate(drawn(3)):
        cv2.imwrite(str(frames / f"{k:05d}.png"), frame[..., ::-1])
    result = CliRunner().invoke(app, ["watch", str(frames), "--box", "28,23,72,67", "--port", "0"])
    assert result.exit_code == 0, result.output
    assert "at http://127.0.0.1:" in result.output and "frames shown" in result.output
    for arguments, told in (
        ([str(frames), "--box", "1,2,3"], "--box 1,2,3 is not x0,y0,x1,y1 in pixels"),
        (["nowhere.mp4"], "nowhere.mp4 does not exist"),
    ):
        wrong = CliRunner().invoke(app, ["watch", *arguments])
        assert wrong.exit_code == 2 and told in wrong.output + capfd.readouterr().err
