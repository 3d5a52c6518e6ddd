from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segspn.foreground import FitConfig, HeadBank
from segspn.foreground.parent import Head

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = FitConfig(steps=8, batch=2, lr=1e-2)


def parent() -> Head:
    torch.manual_seed(0)
    return Head(width=6, hidden=4)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(3, 6, 5, 7, generator=generator)
    targets = torch.zeros(3, 3, 10, 14)
    targets[:, 0, :4, :5], targets[:, 1, 5:, 8:], targets[:, 2, 2:6] = 1, 1, 1
    return embeddings, targets


def test_a_new_bank_is_copies_of_the_parent() -> None:
    embeddings, _ = batch()
    with torch.no_grad():
        logits = HeadBank(parent(), 3).run(embeddings)
        assert logits.shape == (3, 3, 10, 14)
        assert torch.allclose(logits, parent()(embeddings).expand(3, 3, 10, 14), atol=1e-6)


def test_heads_learned_together_are_those_learned_alone() -> None:
    embeddings, targets = batch()
    together = HeadBank(parent(), 3)
    together.fit(embeddings, targets, QUICK, seed=0)
    for k in range(3):
        alone = HeadBank(parent(), 1)
        alone.fit(embeddings, targets[:, k : k + 1], QUICK, seed=0)
        wanted = together.run(embeddings)[:, k : k + 1]
        assert torch.allclose(alone.run(embeddings), wanted, atol=1e-3)


def test_fit_repeats_itself_for_a_seed() -> None:
    embeddings, targets = batch()
    banks = [HeadBank(parent(), 3) for _ in range(3)]
    for bank, seed in zip(banks, (0, 0, 1), strict=True):
        bank.fit(embeddings, targets, QUICK, seed)
    one, two, other = (bank.run(embeddings) for bank in banks)
    assert torch.equal(one, two) and not torch.equal(one, other)


@torch.inference_mode()  # as in a session
def test_only_the_heads_learn() -> None:
    embeddings, targets = batch()
    head = parent()
    before = {k: v.clone() for k, v in head.state_dict().items()}
    bank = HeadBank(head, 3)
    start = F.binary_cross_entropy_with_logits(bank.run(embeddings), targets)
    bank.fit(embeddings, targets, QUICK, seed=0)
    assert F.binary_cross_entropy_with_logits(bank.run(embeddings), targets) < start
    assert all(torch.equal(before[k], v) for k, v in head.state_dict().items())
    assert all(p.grad is None for p in head.parameters()) and embeddings.grad is None
    assert not any(p.requires_grad for p in bank.params)


def test_each_step_is_told_with_the_heads_as_they_are_then() -> None:
    embeddings, targets = batch()
    bank = HeadBank(parent(), 3)
    seen: list[tuple[int, float]] = []
    bank.fit(embeddings, targets, QUICK, 0,
             on_step=lambda step: seen.append((step, float(bank.params[0].sum()))))
    assert [step for step, _ in seen] == list(range(1, 9)) and len({s for _, s in seen}) == 8
    assert seen[-1][1] == float(bank.params[0].sum())
