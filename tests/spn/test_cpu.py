"""The numba kernels against the reference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from segspn.spn import propagate
from segspn.spn.reference import MERGES, propagate_reference

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SHAPES = [(1, 1, 1, 1), (1, 2, 1, 7), (2, 1, 7, 1), (2, 2, 17, 41), (1, 9, 32, 70), (1, 30, 19, 13)]


@pytest.fixture(autouse=True)
def one_thread_for_torch() -> Iterator[None]:
    """The many small operations of the reference crawl when their threads share a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(
    shape: tuple[int, ...], dtype: torch.dtype, per_channel: bool = False, scale: float = 0.6
) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(sum(shape))
    b, n, h, w = shape
    gates = torch.randn(b, *([n] if per_channel else []), 4, 3, h, w, dtype=dtype) * scale
    return torch.rand(shape, dtype=dtype), gates


def compare(x: torch.Tensor, gates: torch.Tensor, rounds: int, merge: str, normalise: bool) -> None:
    """Result and both gradients, relative to their largest value."""
    found_in = [t.detach().clone().requires_grad_() for t in (x, gates)]
    expected_in = [t.detach().clone().requires_grad_() for t in (x, gates)]
    found = propagate(*found_in, rounds=rounds, merge=merge, normalise=normalise)
    expected = propagate_reference(*expected_in, rounds, merge, normalise)
    assert found.shape == expected.shape and found.dtype == x.dtype
    grad = torch.randn_like(expected)
    found_grads = torch.autograd.grad(found, found_in, grad)
    expected_grads = torch.autograd.grad(
        expected, expected_in, grad, allow_unused=True, materialize_grads=True
    )
    pairs = zip((found, *found_grads), (expected, *expected_grads), strict=True)
    for value, wanted in pairs:
        scale = max(1.0, wanted.abs().max().item())
        assert (value - wanted).abs().max().item() <= TOLERANCE[x.dtype] * scale


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_as_reference(
    dtype: torch.dtype, shape: tuple[int, ...], per_channel: bool, merge: str, normalise: bool
) -> None:
    x, gates = make(shape, dtype, per_channel, 0.6 if normalise else 0.2)
    compare(x, gates, 1, merge, normalise)


@pytest.mark.parametrize("merge", ["max", "mean"])
def test_two_rounds(merge: str) -> None:
    compare(*make((1, 2, 23, 29), torch.float64), 2, merge, True)


def test_mid_size_gradients() -> None:
    compare(*make((1, 2, 61, 113), torch.float32), 1, "max", True)


def test_more_maps_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from segspn.spn import cpu

    monkeypatch.setattr(cpu, "BLOCK", 2)
    monkeypatch.setattr(cpu, "BLOCK_BYTES", 1)
    for merge in ("max", "mean"):
        compare(*make((2, 5, 19, 33), torch.float64), 1, merge, True)


@pytest.mark.parametrize("gates_at", [(0.25, 0.5, 0.25), (-0.25, 0.5, -0.25), (0, 1, 0)])
def test_stability_limit(gates_at: tuple[float, float, float]) -> None:
    x, gates = make((1, 2, 17, 21), torch.float64)
    gates[:] = torch.tensor(gates_at, dtype=gates.dtype).reshape(3, 1, 1)
    compare(x, gates, 1, "all", True)


@pytest.mark.parametrize("merge", MERGES)
def test_stays_within_the_input(merge: str) -> None:
    x, gates = make((1, 2, 97, 131), torch.float32, scale=3)
    x -= 0.5
    result = propagate(x, gates.abs(), merge=merge)
    assert result.abs().max() <= x.abs().max() * (1 + 1e-6)
    constant = torch.full_like(x, 0.3)
    expected = constant.unsqueeze(1).expand(result.shape) if merge == "all" else constant
    torch.testing.assert_close(propagate(constant, gates, merge=merge), expected)


def test_huge_gates_are_tame_when_normalised() -> None:
    x, gates = make((1, 1, 40, 40), torch.float32, scale=1e6)
    assert propagate(x, gates).isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_comes_out(value: float) -> None:
    x, gates = make((1, 2, 33, 35), torch.float32)
    x[0, 1, 16, 17] = value
    result = propagate(x, gates)
    assert result[0, 0].isfinite().all()
    assert not result[0, 1, 16, 17].isfinite()


def test_non_contiguous() -> None:
    x, gates = make((2, 3, 20, 24), torch.float32)
    views = x.to(memory_format=torch.channels_last), gates.mT.contiguous().mT
    assert torch.equal(propagate(*views), propagate(x, gates))
    sliced = propagate(x[:, ::2, 1::2, ::3], gates[..., 1::2, ::3])
    expected = propagate_reference(x[:, ::2, 1::2, ::3], gates[..., 1::2, ::3])
    torch.testing.assert_close(sliced, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 0, 5, 7), (0, 2, 5, 7)])
@pytest.mark.parametrize("merge", MERGES)
def test_nothing_to_do(shape: tuple[int, ...], merge: str) -> None:
    x, gates = (t.requires_grad_() for t in make(shape, torch.float32))
    result = propagate(x, gates, merge=merge)
    assert result.shape == ((shape[0], 4, *shape[1:]) if merge == "all" else shape)
    result.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert gates.grad is not None and not gates.grad.any()


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("merge", MERGES)
def test_gradcheck(merge: str, normalise: bool) -> None:
    x, gates = (t.requires_grad_() for t in make((1, 2, 4, 5), torch.float64))

    def call(x: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        return propagate(x, gates, merge=merge, normalise=normalise)

    assert torch.autograd.gradcheck(call, (x, gates))


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("count", [1, 6])
def test_threads_do_not_matter(merge: str, count: int) -> None:
    x, gates = (t.requires_grad_() for t in make((1, count, 150, 170), torch.float32))
    results = []
    for threads in (1, 2, 5):  # 5: a direction a job
        torch.set_num_threads(threads)
        result = propagate(x, gates, merge=merge)
        results.append((result, *torch.autograd.grad(result.square().sum(), (x, gates))))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)
