"""The published schedule and loss, on a net small enough to look through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segspn.foreground import AugmentConfig, FineTuneConfig, Samples
from segspn.foreground.finetune import balanced_loss, fine_tune

pytestmark = pytest.mark.usefixtures("one_thread")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image / 255 - 0.5)


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small().eval().requires_grad_(False)


def samples() -> Samples:
    """A red disc-like square (object 4) and a blue one (object 9) on grey."""
    labels = np.zeros((40, 50), np.int32)
    labels[5:20, 5:20], labels[22:36, 25:45] = 4, 9
    frame = np.full((40, 50, 3), 128, np.uint8)
    frame[labels == 4], frame[labels == 9] = (230, 20, 20), (20, 20, 230)
    return Samples(frame, labels, (4, 9), AugmentConfig(copies=5), 0, torch.device("cpu"))


# As the published schedule, for a frame and a net that are very much smaller.
QUICK = FineTuneConfig(steps=60, lr=2e-4, momentum=0.9)


def test_the_published_schedule() -> None:
    config = FineTuneConfig()
    assert (config.steps, config.momentum, config.weight_decay) == (30_000, 0.99, 5e-4)
    steps = (0, 9_999, 10_000, 19_999, 20_000, 29_999)
    assert [config.lr_at(s) for s in steps] == [1e-8, 1e-8, 5e-9, 5e-9, 2.5e-9, 2.5e-9]
    with pytest.raises(ValueError, match="halve_every"):
        FineTuneConfig(halve_every=0)


def test_the_loss_is_summed_and_each_class_weighted_by_the_others_share() -> None:
    target = torch.tensor([[True, False, False, False]])
    logits = torch.tensor([[[0.0, 1.0, 2.0, 0.5]], [[0.3, 0.0, -1.0, 0.5]]])
    log = torch.log_softmax(logits, 0)
    wanted = -(0.75 * log[1, 0, 0] + 0.25 * log[0, 0, 1:].sum())
    assert float(balanced_loss(logits, target)) == pytest.approx(float(wanted), rel=1e-6)
    twice = balanced_loss(torch.cat((logits, logits), 1), torch.cat((target, target)))
    assert float(twice) == pytest.approx(2 * float(wanted), rel=1e-6)


def test_the_loss_falls_and_the_target_is_found() -> None:
    net = small()
    with torch.inference_mode():  # as in a session
        losses = fine_tune(net, samples(), lambda labels: labels == 4, QUICK, seed=0)
    assert len(losses) == 60 and np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
    frame, labels = samples().copies[0]
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    found = net(image)[0].argmax(0).numpy() == 1
    assert (found == (labels == 4)).mean() > 0.97
    assert not any(p.requires_grad or p.grad is not None for p in net.parameters())


def test_a_seed_repeats_itself() -> None:
    nets = [small() for _ in range(3)]
    for net, seed in zip(nets, (5, 5, 6), strict=True):
        fine_tune(net, samples(), lambda labels: labels > 0, QUICK, seed)
    weights = [net.conv.weight for net in nets]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_each_step_is_told_with_the_net_as_it_is_then() -> None:
    net, seen = small(), []
    fine_tune(net, samples(), lambda labels: labels > 0, FineTuneConfig(steps=3, lr=1e-3), 0,
              lambda step: seen.append((step, float(net.conv.weight.detach().sum()))))
    assert [step for step, _ in seen] == [1, 2, 3] and len({value for _, value in seen}) == 3
    short = small()
    fine_tune(short, samples(), lambda labels: labels > 0, FineTuneConfig(steps=2, lr=1e-3), 0)
    assert float(short.conv.weight.sum()) == seen[1][1]


def test_the_first_step_is_sgd_with_weight_decay() -> None:
    net = small()
    before = net.conv.weight.clone()
    alone = samples()
    alone.copies = alone.copies[:1]  # type: ignore[assignment]
    frame, labels = alone.copies[0]
    image = torch.nn.functional.pad(
        torch.from_numpy(frame).permute(2, 0, 1)[None].float(), (0, 14, 0, 24), mode="replicate"
    )
    with torch.enable_grad():
        twin = small().requires_grad_(True)
        loss = balanced_loss(twin(image)[0, :, :40, :50], torch.from_numpy(labels > 0))
        loss.backward()
    config = FineTuneConfig(steps=1, lr=1e-4, weight_decay=0.1)
    assert fine_tune(net, alone, lambda labels: labels > 0, config, 0) == pytest.approx([loss.item()])
    assert twin.conv.weight.grad is not None
    wanted = before - 1e-4 * (twin.conv.weight.grad + 0.1 * before)
    assert torch.allclose(net.conv.weight, wanted, atol=1e-6)
