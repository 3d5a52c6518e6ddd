"""The Triton kernels on CPU tensors, under triton's interpreter, against the reference.

Not collected with the other tests: the interpreter has to be asked for before triton is imported
(by anyone, torch included), so `test_triton.py` runs this file in a process of its own. The
interpreter takes milliseconds for each line of a scan, hence small maps, and few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from segspn.spn.reference import propagate_reference

assert os.environ.get("TRITON_INTERPRET") == "1", "run by test_triton.py"

from segspn.spn import cuda  # noqa: E402

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """New buffers are full of NaN: what a kernel leaves unwritten must not come through."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def make(shape: tuple[int, ...], scale: float = 0.6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    b, _, h, w = shape
    x = torch.rand(shape, generator=generator)
    return x, torch.randn(b, 4, 3, h, w, generator=generator) * scale


def compare(x: Tensor, gates: Tensor, merge: str = "max", normalise: bool = True) -> None:
    """Result and both gradients, relative to their largest value; half precision against float32."""
    leaves = [t.detach().float().requires_grad_() for t in (x, gates)]
    expected = propagate_reference(*leaves, 1, merge, normalise)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    wanted = torch.autograd.grad(
        expected, leaves, grad.float(), allow_unused=True, materialize_grads=True
    )
    found = cuda.forward(x, gates, merge, normalise)
    gradients = cuda.backward(grad, x, gates, merge, normalise)
    for value, reference in zip((found, *gradients), (expected, *wanted), strict=True):
        assert value.shape == reference.shape and value.dtype == x.dtype
        scale = max(1.0, reference.abs().max().item())
        assert (value.float() - reference).abs().max().item() <= TOLERANCE[x.dtype] * scale


@pytest.mark.parametrize("merge", ["max", "mean", "all"])
def test_merges(merge: str) -> None:
    compare(*make((1, 2, 3, 4)), merge)


@pytest.mark.parametrize("merge", ["max", "all"])
def test_gates_as_they_are(merge: str) -> None:
    compare(*make((1, 1, 3, 4), 0.2), merge, normalise=False)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (1, 2, 1, 5), (1, 1, 7, 1), (2, 5, 2, 3), (1, 1, 1, 33)]
)
def test_shapes(shape: tuple[int, ...]) -> None:
    """One line, one lane, primes; whole and partial blocks of maps; more lanes than a tile has."""
    compare(*make(shape))


def test_one_map_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_device", lambda device: (132, 227 << 10))
    compare(*make((1, 2, 3, 4)), "mean")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    compare(*(t.to(dtype) for t in make((1, 2, 3, 3))), "mean")


@pytest.mark.parametrize("gates_at", [(0.25, 0.5, 0.25), (-0.25, 0.5, -0.25)])
def test_stability_limit(gates_at: tuple[float, float, float]) -> None:
    x, gates = make((1, 1, 3, 4))
    gates[:] = torch.tensor(gates_at).reshape(3, 1, 1)
    compare(x, gates, "all")


def test_aligned_lines_and_other_strides() -> None:
    """Rows of 16 are read where they lie; what is not contiguous is copied first."""
    compare(*make((2, 1, 2, 16)))
    x, gates = make((1, 2, 7, 6))
    compare(x[:, ::2, 1::2, ::2], gates.mT.contiguous().mT[..., 1::2, ::2])


@torch.no_grad()
def test_not_a_number_comes_out_and_stays_in_its_map() -> None:
    x, gates = make((1, 2, 3, 4))
    x[0, 1, 1, 2] = float("nan")
    result = cuda.forward(x, gates, "max", True)
    assert result[0, 0].isfinite().all() and result[0, 1, 1, 2].isnan()
    expected = propagate_reference(x, gates)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5, equal_nan=True)
