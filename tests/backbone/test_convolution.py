from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone import convolution
from segspn.backbone.convolution import NOTHING, RELU, RELU6, Conv2d

pytestmark = pytest.mark.usefixtures("one_thread")

FORMS = (
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 3, "dilation": 3},
    {"kernel_size": 5, "padding": 2, "groups": 8},
    {"kernel_size": 4, "padding": 1, "stride": 2, "groups": 4, "bias": False},
)


def made(**form: int) -> Conv2d:
    torch.manual_seed(0)
    return Conv2d(8, 16, **form).requires_grad_(False)


def wanted(conv: Conv2d, x: Tensor, activation: str, add: Tensor | None) -> Tensor:
    y = nn.Conv2d.forward(conv, x)
    y = y if add is None else y + add
    return {NOTHING: lambda v: v, RELU: F.relu, RELU6: F.relu6}[activation](y)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", [NOTHING, RELU, RELU6])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_one_pass_is_one_after_the_other(
    form: dict[str, int], activation: str, adds: bool, last: bool
) -> None:
    conv = made(**form)
    for size in ((17, 23), (8, 8), (1, 9)):  # the first decides how the weight is kept
        if size[0] < 2 and form.get("stride") == 2:
            continue
        x = 9 * torch.randn(1, 8, *size)
        x = x.contiguous(memory_format=torch.channels_last) if last else x
        add = 5 * torch.randn_like(nn.Conv2d.forward(conv, x)) if adds else None
        kept = None if add is None else add.clone()
        expected = wanted(conv, x, activation, add)
        with torch.inference_mode():
            found = conv(x, activation, add)
        assert torch.allclose(found, expected, atol=1e-4)
        assert add is None or torch.equal(add, kept)  # it is not written to


@torch.no_grad()
def test_a_window_of_maps() -> None:
    conv = made(kernel_size=3, padding=1)
    whole = torch.randn(1, 8, 20, 30).contiguous(memory_format=torch.channels_last)
    x, add = whole[..., 3:13, 5:20], torch.randn(1, 16, 30, 40)[..., 2:12, 7:22]
    assert torch.allclose(conv(x, RELU, add), wanted(conv, x, RELU, add), atol=1e-5)


@torch.no_grad()
def test_a_changed_weight_is_noticed() -> None:
    conv, x = made(kernel_size=1), torch.randn(1, 8, 4, 4)
    before = conv(x)
    conv.weight.mul_(2)
    assert torch.allclose(conv(x), wanted(conv, x, NOTHING, None), atol=1e-5)
    conv.load_state_dict({"weight": torch.zeros(16, 8, 1, 1), "bias": torch.ones(16)})
    assert torch.equal(conv(x), torch.ones_like(before))
    conv.requires_grad_(True)
    conv.weight.data += 1  # no version tells of it
    assert torch.allclose(conv(x), wanted(conv, x, NOTHING, None), atol=1e-5)


@torch.no_grad()
def test_copies_and_other_types() -> None:
    conv, x = made(kernel_size=3, padding=1), torch.randn(1, 8, 9, 9)
    expected = conv(x)
    other = copy.deepcopy(conv)
    assert torch.equal(other(x), expected)
    assert torch.allclose(other.bfloat16()(x.bfloat16()).float(), expected, atol=0.05)
    assert torch.allclose(conv.double()(x.double()), expected.double(), atol=1e-5)


@torch.no_grad()
def test_under_autocast_a_precise_sum_stays_precise() -> None:
    conv, x = made(kernel_size=1), torch.randn(1, 8, 4, 4)
    add = 1000 + torch.rand(1, 16, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
        found = conv(x, RELU, add)
        assert conv(x, RELU, add.bfloat16()).dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted(conv, x, RELU, add), atol=0.05)


def test_gradients_are_those_of_torch() -> None:
    conv = made(kernel_size=3, padding=1).double().requires_grad_(True)
    x = torch.randn(1, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    add = torch.randn(1, 16, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *at: conv(at[0], RELU, at[1]), (x, add))


def test_operations_of_another_torch_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    known = convolution._OPERATIONS
    assert convolution._have_operations() == convolution._available
    for other in ({("_convolution_pointwise", "default"): 11}, {("_gone", "default"): 1},
                  {("_convolution_pointwise", "gone"): 1}):  # fmt: skip
        monkeypatch.setattr(convolution, "_OPERATIONS", {**known, **other})
        assert not convolution._have_operations()


@torch.no_grad()
def test_where_operations_lack_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = made(kernel_size=3, padding=1), torch.randn(1, 8, 9, 9)
    expected = conv(x, RELU6)
    monkeypatch.setattr(convolution, "_available", False)
    monkeypatch.setattr(conv, "_in_one_pass", None)
    assert torch.allclose(conv(x, RELU6), expected, atol=1e-5)


@torch.no_grad()
def test_on_a_processor_without_bfloat16_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = made(kernel_size=3, padding=1), torch.randn(1, 8, 9, 9)
    expected = conv(x, RELU6)
    monkeypatch.setattr(convolution, "_types", (torch.float32,))
    assert torch.equal(conv(x, RELU6), expected)
    monkeypatch.setattr(conv, "_in_one_pass", None)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x, RELU6)
    for lower in (found, conv.bfloat16()(x.bfloat16(), RELU6)):
        assert lower.dtype == torch.bfloat16
        assert torch.allclose(lower.float(), expected, atol=0.05)


@torch.no_grad()
def test_digits_do_not_depend_on_what_came_first() -> None:
    """A resumed run meets its windows in another order, and must go on with the same numbers."""
    for form in FORMS:
        x = torch.randn(1, 8, 24, 32)
        found = []
        for first in ((24, 32), (16, 16), (60, 108), (5, 7)):
            conv = made(**form)
            conv(torch.randn(1, 8, *first))
            found.append(conv(x))
        assert all(torch.equal(y, found[0]) for y in found)
