"""The registered op: what torch requires of it, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from segspn.spn import Propagation, operator, propagate
from segspn.spn.reference import propagate_reference


def make(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    b, _, h, w = shape
    return torch.rand(shape, dtype=dtype), torch.randn(b, 4, 3, h, w, dtype=dtype) * 0.6


@pytest.mark.parametrize("merge", ["max", "mean", "all"])
def test_opcheck(merge: str) -> None:
    x, gates = (t.requires_grad_() for t in make(1, 2, 6, 9, dtype=torch.float64))
    torch.library.opcheck(torch.ops.segspn.propagate.default, (x, gates, merge, True))


@pytest.mark.parametrize("objects", [0, 1, 30])
def test_opcheck_of_any_number_of_maps(objects: int) -> None:
    x, gates = (t.requires_grad_() for t in make(1, objects, 6, 9))
    torch.library.opcheck(torch.ops.segspn.propagate.default, (x, gates, "max", True))


@pytest.mark.parametrize("merge", ["max", "mean", "all"])
@pytest.mark.parametrize("objects", [0, 2])
def test_opcheck_of_the_backward(objects: int, merge: str) -> None:
    x, gates = make(1, objects, 6, 9)
    grad = torch.randn(1, 4, objects, 6, 9) if merge == "all" else torch.randn_like(x)
    operator = torch.ops.segspn.propagate_backward.default
    torch.library.opcheck(operator, (grad, x, gates, merge, True))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile(backend: str) -> None:
    torch._dynamo.reset()
    x, gates = make(1, 2, 12, 17)

    def call(x: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        return propagate(x * 2, gates.sigmoid(), rounds=2) + 1

    compiled = torch.compile(call, fullgraph=True, backend=backend)
    grads = []
    for f in (call, compiled):
        leaves = [t.clone().requires_grad_() for t in (x, gates)]
        result = f(*leaves)
        grads.append((result, *torch.autograd.grad(result.square().sum(), leaves)))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_export() -> None:
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
            return propagate(x, gates, rounds=2)

    objects = torch.export.Dim("objects", min=2, max=64)
    inputs = make(1, 3, 8, 11)
    program = torch.export.export(Module(), inputs, dynamic_shapes={"x": {1: objects}, "gates": None})
    x, gates = make(1, 5, 8, 11)
    torch.testing.assert_close(program.module()(x, gates), propagate(x, gates, rounds=2))


@pytest.mark.parametrize("merge", ["mean", "max"])
def test_the_stage_compiles_and_exports(merge: str) -> None:
    """The module of the pipeline: the operator and two learned numbers."""
    torch._dynamo.reset()
    module = Propagation(merge=merge, rounds=2)
    values, gates = torch.randn(1, 2, 24, 28), torch.rand(1, 4, 3, 24, 28)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    grads = []
    for call in (module, compiled):
        result = call(values, gates)
        grads.append((result, *torch.autograd.grad(result.square().sum(), module.parameters())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
    objects = torch.export.Dim("objects", min=2, max=64)
    shapes = {"values": {1: objects}, "gates": None}
    program = torch.export.export(module, (values, gates), dynamic_shapes=shapes)
    values = torch.randn(1, 30, 24, 28)
    torch.testing.assert_close(program.module()(values, gates), module(values, gates))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x, gates = (t.to(dtype).requires_grad_() for t in make(1, 2, 20, 30))
    result = propagate(x, gates)
    assert result.dtype == dtype
    assert (
        torch.equal(result, propagate_reference(x.float(), gates.float()).to(dtype))
        or (result - propagate_reference(x.float(), gates.float())).abs().max() < torch.finfo(dtype).eps
    )
    result.sum().backward()
    assert x.grad is not None and x.grad.dtype == dtype
    assert gates.grad is not None and gates.grad.dtype == dtype


def test_other_devices_take_the_torch_path(monkeypatch: pytest.MonkeyPatch) -> None:
    x, gates = (t.requires_grad_() for t in make(1, 2, 6, 9, dtype=torch.float64))
    kernel = propagate(x, gates)
    expected = (kernel, *torch.autograd.grad(kernel.square().sum(), (x, gates)))
    monkeypatch.setattr(operator, "_backend", lambda x: "torch")
    torched = propagate(x, gates)
    found = (torched, *torch.autograd.grad(torched.square().sum(), (x, gates)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(device: str, dtype: torch.dtype) -> str:
        tensor = SimpleNamespace(
            device=torch.device(device), dtype=dtype
        )  # there need not be such a device
        return operator._backend(tensor)  # type: ignore[arg-type]

    for found, kernels in ((True, "triton"), (False, "torch")):
        monkeypatch.setattr(operator, "_triton_found", lambda found=found: found)
        assert backend("cuda", torch.float32) == backend("cuda:1", torch.bfloat16) == kernels
        assert backend("cuda", torch.float64) == backend("mps", torch.float32) == "torch"
        assert backend("cpu", torch.float16) == backend("cpu", torch.float64) == "numba"


def test_no_gradient_needed_where_none_is_asked() -> None:
    x, gates = make(1, 1, 5, 6)
    assert not propagate(x, gates).requires_grad
    with torch.inference_mode():
        propagate(x, gates)


X, GATES = make(1, 2, 5, 7)


@pytest.mark.parametrize(
    ("x", "gates", "options", "message"),
    [
        (X[0], GATES, {}, "x must be"),
        (torch.rand(1, 2, 0, 7), torch.rand(1, 4, 3, 0, 7), {}, "H, W >= 1"),
        (X, GATES[:, :, :2], {}, "gates must be"),
        (X, GATES[..., :6], {}, "gates must be"),
        (X, GATES.double(), {}, "float dtype"),
        (X.int(), GATES.int(), {}, "float dtype"),
        (X, GATES.to("meta"), {}, "share a device"),
        (X, GATES, {"merge": "min"}, "merge must be"),
        (X, GATES, {"rounds": 0}, "rounds"),
        (X, GATES, {"rounds": 2, "merge": "all"}, "rounds"),
    ],
)
def test_refuses(x: torch.Tensor, gates: torch.Tensor, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        propagate(x, gates, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_numba_is_imported_at_the_first_call_only() -> None:
    code = "import sys, segspn.spn; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
