"""The Triton kernels: interpreted on the CPU, built for a GPU without one, run on one if there is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segspn.spn import propagate
from segspn.spn.reference import backward_reference, propagate_reference

pytest.importorskip("triton", "3.4", reason="needs triton 3.4, which is made for Linux only")

interpreted = os.environ.get("TRITON_INTERPRET") == "1"
gpu = pytest.mark.skipif(not torch.cuda.is_available() or interpreted, reason="needs a CUDA device")


def test_as_reference_under_the_interpreter() -> None:
    checks = Path(__file__).with_name("interpreted_triton.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(checks)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Build:
    """Stands in for a kernel: a launch builds it for the arguments, and runs nothing."""

    def __init__(self, kernel: Any, built: dict[str, Any]) -> None:
        self.kernel, self.built = kernel, built

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.launch

    def launch(self, *args: Any, num_warps: int = 4, **constants: Any) -> None:
        import triton
        from triton.backends.compiler import GPUTarget

        short = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
        signature, aligned = {}, {}
        for i, (parameter, value) in enumerate(zip(self.kernel.params, args, strict=False)):
            name, special = parameter.name, not parameter.do_not_specialize
            if isinstance(value, Tensor):
                signature[name] = "*" + short[value.dtype]
            elif special and value == 1:  # triton makes it a constant, too
                constants[name] = value
                continue
            else:
                signature[name] = "i32" if value < 2**31 else "i64"
            if special and (isinstance(value, Tensor) or value % 16 == 0):
                aligned[(i,)] = [["tt.divisibility", 16]]
        signature |= dict.fromkeys(constants, "constexpr")
        source = triton.compiler.ASTSource(self.kernel, signature, constants, aligned)
        target = GPUTarget("cuda", 90, 32)
        compiled = triton.compile(source, target=target, options={"num_warps": num_warps})
        self.built[self.kernel.__name__] = compiled


@pytest.mark.skipif(interpreted, reason="the interpreter is on")
@pytest.mark.parametrize(
    ("shape", "merge", "dtype"),
    [
        ((1, 32, 1080, 1920), "max", torch.float32),  # a map per program, rows read where they lie
        ((2, 70, 2160, 4090), "all", torch.bfloat16),  # four maps per program, 32 warps, rows copied
    ],
)
def test_builds_for_a_gpu(
    shape: tuple[int, ...],
    merge: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from segspn.spn import cuda

    shared = 227 << 10  # of an H100, as are the processors
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cuda, "_device", lambda device: (132, shared))
    built: dict[str, Any] = {}
    for name in ("scan", "scan_back", "to_columns", "merge", "spread", "x_gradient", "gates_gradient"):
        monkeypatch.setattr(cuda, name, Build(getattr(cuda, name), built))
    b, _, h, w = shape
    x = torch.empty(shape, dtype=dtype, device="meta")
    gates = torch.empty((b, 4, 3, h, w), dtype=dtype, device="meta")
    grad = torch.empty_like(cuda.forward(x, gates, merge, True))
    dx, dgates = cuda.backward(grad, x, gates, merge, True)
    assert dx.shape == x.shape and dgates.shape == gates.shape
    assert len(built) == 7 and all(kernel.asm["cubin"] for kernel in built.values())
    for name in ("scan", "scan_back"):
        assert built[name].metadata.shared <= shared
        # Lines are loaded ahead, and neighbours exchanged without shuffles by the hundred.
        assert "cp.async" in built[name].asm["ptx"] and "shfl" not in built[name].asm["ptx"]


def run(
    count: int, size: tuple[int, int], merge: str, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """Result and gradients on the GPU, and the reference's in float64."""
    generator = torch.Generator("cuda").manual_seed(count)
    options: dict[str, Any] = {"generator": generator, "device": "cuda"}
    x = torch.rand(1, count, *size, **options).to(dtype).requires_grad_()
    gates = torch.randn(1, 4, 3, *size, **options).to(dtype).requires_grad_()
    found = propagate(x, gates, merge=merge)
    grad = torch.randn(found.shape, **options).to(dtype)
    found_grads = torch.autograd.grad(found, (x, gates), grad)
    with torch.no_grad():
        wide = x.double(), gates.double()
        expected = propagate_reference(*wide, 1, merge)
        expected_grads = backward_reference(grad.double(), *wide, merge, True)
    return [found, *found_grads], [expected, *expected_grads]


def off(found: Tensor, expected: Tensor) -> float:
    """Relative error in the 2-norm; NaN where there is a NaN."""
    return ((found.double() - expected).norm() / expected.norm()).item()


@gpu
@pytest.mark.parametrize("merge", ["max", "mean", "all"])
@pytest.mark.parametrize(("count", "size"), [(1, (480, 854)), (5, (480, 854)), (32, (480, 854))])
def test_on_the_gpu(count: int, size: tuple[int, int], merge: str) -> None:
    found, expected = run(count, size, merge, torch.float32)
    assert off(found[0], expected[0]) < 1e-6
    # Where two directions are equal but for rounding, the gradient may go to the other one.
    limit = 1e-2 if merge == "max" else 1e-5
    assert off(found[1], expected[1]) < limit and off(found[2], expected[2]) < limit


@gpu
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_half_precision_on_the_gpu(dtype: torch.dtype, limit: float) -> None:
    found, expected = run(3, (270, 481), "mean", dtype)
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == dtype and off(value, wanted) < limit


@gpu
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (37, 1), (13, 4100), (1080, 1920)])
def test_sizes_on_the_gpu(size: tuple[int, int]) -> None:
    found, expected = run(2, size, "mean", torch.float32)
    for value, wanted in zip(found, expected, strict=True):
        if wanted.any():
            assert off(value, wanted) < 1e-5
        else:
            assert not value.any()


@gpu
def test_same_result_every_time_on_the_gpu() -> None:
    once, again = (run(32, (240, 427), "max", torch.float32)[0] for _ in range(2))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a, b)
