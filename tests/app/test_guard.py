from __future__ import annotations

import pytest
from pages import Page
from starlette.testclient import TestClient

from segspn.app import Access
from segspn.app.guard import is_loopback

TOKEN = "a long enough secret"


def remote(serve, host="0.0.0.0") -> TestClient:
    client = serve(access=Access.to(host, TOKEN))
    client.base_url = "http://192.168.1.7:8650"
    return client


@pytest.mark.parametrize("host", ["127.0.0.1:8650", "localhost:8650", "[::1]:8650", "LOCALHOST"])
def test_this_machine_is_let_in(serve, host):
    assert serve().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8650", "127.0.0.1.evil.example", "192.168.1.7", ""]
)
def test_names_that_only_resolve_to_this_machine_are_refused(serve, host):
    answer = serve().post("/api/tabs", headers={"Host": host})
    assert answer.status_code == 403
    assert "tab" not in answer.json()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_cannot_change_or_read_anything(serve, headers):
    page = Page(serve())
    assert page.client.post("/api/tabs", headers=headers).status_code == 403
    assert page.client.get(f"/api/{page.tab}/state", headers=headers).status_code == 403
    own = {"Origin": "http://127.0.0.1:8650", "Sec-Fetch-Site": "same-origin"}
    assert page.client.post("/api/tabs", headers=own).status_code == 201


def test_a_link_from_elsewhere_opens_the_front_page(serve):
    assert serve().get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_another_address_needs_the_token(serve):
    client = remote(serve)
    for path in ("/", "/page/main.js", "/api/x/state", "/?token=wrong", "/?token="):
        assert client.get(path).status_code == 401
    assert client.post("/api/tabs").status_code == 401
    assert client.post(f"/api/tabs?token={TOKEN}").status_code == 401  # by cookie alone


def test_the_token_moves_from_the_address_to_a_cookie(serve):
    client = remote(serve)
    answer = client.get("/", params={"token": TOKEN})
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/").status_code == 200
    assert client.post("/api/tabs").status_code == 201


def test_another_address_still_knows_its_names(serve):
    client = remote(serve, "nas.home")
    client.get("/", params={"token": TOKEN})
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403


def test_a_token_is_made_up_where_others_can_connect():
    made = Access.to("0.0.0.0", None).token
    assert made is not None and len(made) >= 32
    assert Access.to("0.0.0.0", None).token != made
    assert Access.to("127.0.0.1", None).token is None
    assert made not in repr(Access.to("0.0.0.0", made))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.example"])
def test_not_loopback(host):
    assert not is_loopback(host)


def test_every_answer_forbids_framing_and_foreign_scripts(serve):
    client = serve()
    for path in ("/", "/page/main.js", "/nothing", "/api/x/state"):
        headers = client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
