from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the app's extra is not installed")

SERVE = """
import sys
from segspn.app import serve
from fake_engine import FakeEngine
arguments = dict(part.split("=") for part in sys.argv[1:])
port = int(arguments.pop("port", 0))
serve(FakeEngine(), port=port, browser=False, say=lambda line: print(line, flush=True), **arguments)
"""
APP = Path(__file__).parents[1] / "app"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segspn", "app", "--no-browser", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def serving(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A server with an engine without nets, and its address."""
    path = os.pathsep.join([str(APP), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    told = re.search(r"http://\S+", process.stdout.readline())
    assert told is not None
    return process, told[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.mp4"], "nothing.mp4 does not exist"),
        (["--host", "256.1.1.1"], "cannot serve on 256.1.1.1"),
        (["--token", "short"], "--token must have at least 8"),
        (["--preset", "nonsense"], "nonsense"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--port", str(taken.getsockname()[1]))
    assert done.returncode == 2 and "--port" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process")
def test_it_serves_until_ctrl_c_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process, address = serving()
    try:
        assert address.startswith("http://127.0.0.1:")
        assert b"segspn" in urllib.request.urlopen(address).read()
        urllib.request.urlopen(f"{address}api/tabs", data=b"")
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.wait()


def test_another_address_comes_with_a_token():
    process, address = serving("host=0.0.0.0")
    try:
        bare, token = address.split("?token=")
        assert bare.startswith("http://127.0.0.1:") and len(token) >= 32
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(bare)
        jar = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert jar.open(address).status == 200
    finally:
        process.kill()
        process.wait()


def test_without_the_extra():
    code = "import sys; sys.modules['uvicorn'] = None; import segspn.cli; segspn.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "app"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "needs uvicorn: install it with pip install 'segspn[app]'" in done.stderr
