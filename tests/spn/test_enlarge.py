"""Each operation in one pass, against torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from segspn.spn import enlarge
from segspn.spn.enlarge import bicubic, halved, judged

SIZES = [(1, 1), (2, 5), (7, 3), (16, 24), (33, 40)]


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)


def by_torch(function: Callable[..., Any], *args: Any) -> Any:
    """What torch makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enlarge, "_in_one_pass", lambda x: False)
        return function(*args)


@pytest.mark.parametrize("size", SIZES)
def test_bicubic(size: tuple[int, int], threads: None) -> None:
    values, larger = 5 * torch.randn(2, 3, *size), (4 * size[0], 4 * size[1])
    torch.testing.assert_close(bicubic(values, larger), by_torch(bicubic, values, larger))


def test_bicubic_of_a_window() -> None:
    values = torch.randn(1, 2, 9, 12)[:, 1:, 2:7, 3:11]
    torch.testing.assert_close(bicubic(values, (20, 32)), by_torch(bicubic, values, (20, 32)))


@pytest.mark.parametrize("size", SIZES)
def test_halved(size: tuple[int, int], threads: None) -> None:
    values = 5 * torch.randn(2, 3, *(2 * n for n in size))
    values[0, 0, 0, :2] = torch.tensor([-200.0, 200.0])  # beyond what float32 has a power for
    found = halved(values)
    assert found.shape == (6, 1, *size)
    torch.testing.assert_close(found, by_torch(halved, values))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_judged(size: tuple[int, int], dtype: torch.dtype, threads: None) -> None:
    answers = (3 * torch.randn(6, 12, *size)).to(dtype)
    given = 5 * torch.randn(2, 3, *(4 * n for n in size))
    expected = by_torch(judged, answers.float(), given)
    torch.testing.assert_close(judged(answers, given), expected, rtol=1e-5, atol=1e-5)


def test_gradients_are_torchs() -> None:
    given = torch.randn(1, 2, 8, 12)
    answers = torch.randn(2, 12, 2, 3, requires_grad=True)
    values, hold = judged(answers, given)
    (values.sum() + hold.sum()).backward()
    assert answers.grad is not None and float(answers.grad.abs().min()) > 0
    own = torch.randn(1, 2, 8, 12, requires_grad=True)
    (bicubic(own, (32, 48)).sum() + halved(own).sum()).backward()
    assert own.grad is not None and float(own.grad.abs().min()) > 0
