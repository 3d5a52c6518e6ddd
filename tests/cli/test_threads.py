"""The command line asks torch's threads to sleep soon, unless the user has said how they wait."""

from __future__ import annotations

import os

import pytest

import segspn.cli


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, None),
    ],
)
def test_what_the_user_set_is_kept(
    given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen: list[str | None] = []
    monkeypatch.setattr(segspn.cli, "app", lambda **_: seen.append(os.environ.get("GOMP_SPINCOUNT")))
    segspn.cli.main()
    assert seen == [expected]
