"""The evidence net: what it may not break, and that it can learn what propagation cannot."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segspn.spn import MaskEvidence

pytestmark = pytest.mark.usefixtures("one_thread")


def inputs(n: int = 2, h: int = 64, w: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    detail = torch.rand(1, 16, h // 2, w // 2, generator=generator)
    embedding = torch.randn(1, 96, h // 8, w // 8, generator=generator)
    return detail, embedding, 4 * torch.randn(1, n, h, w, generator=generator)


@torch.no_grad()
def test_untrained_it_hands_on_what_was_given() -> None:
    detail, embedding, given = inputs()
    out, hold = MaskEvidence()(detail, embedding, given)
    assert torch.allclose(out, given * torch.tensor(2.0).sigmoid(), atol=1e-5)
    assert torch.allclose(hold, torch.tensor(-2.0).sigmoid(), atol=1e-5)


@torch.no_grad()
def test_objects_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    net = MaskEvidence().eval()
    net.out.weight.normal_(0, 0.1)
    detail, embedding, given = inputs(3)
    memory = torch.rand(1, 3, 16, 24)
    together, _ = net(detail, embedding, given, memory)
    for k in range(3):
        alone, _ = net(detail, embedding, given[:, k : k + 1], memory[:, k : k + 1])
        assert torch.allclose(together[:, k : k + 1], alone, atol=1e-4)
    assert not torch.allclose(together[:, 0], together[:, 1])


@torch.no_grad()
def test_votes_are_a_convex_mix_of_look_alikes() -> None:
    """Two kinds of places: each is voted the mean label of its kind, wherever they lie."""
    net = MaskEvidence(embedding=2, detail=1, key=2)
    for conv in (net.query, net.key):
        conv.weight.copy_(torch.eye(2)[..., None, None])
        conv.bias.zero_()  # type: ignore[union-attr]
    net.log_scale.fill_(4.0)
    kind = torch.zeros(8, 8)
    kind[:, 4:] = 1
    embedding = torch.stack((1 - kind, kind))[None]
    labels = torch.zeros(1, 1, 4, 4)
    labels[..., 0, 2:] = 1  # a quarter of the second kind is labelled
    votes = net.votes(net.look(torch.zeros(1, 1, 32, 32), embedding), labels)
    assert votes.shape == (1, 1, 8, 8)
    assert torch.allclose(votes[..., :3], torch.tensor(0.0), atol=1e-3)
    assert torch.allclose(votes[..., 5:], torch.tensor(0.25), atol=1e-3)


@torch.no_grad()
def test_no_memory_is_an_undecided_memory() -> None:
    torch.manual_seed(0)
    net = MaskEvidence().eval()
    net.out.weight.normal_(0, 0.1)
    detail, embedding, given = inputs()
    undecided = net(detail, embedding, given, torch.full((1, 2, 16, 24), 0.5))
    for one, other in zip(net(detail, embedding, given), undecided, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_it_learns_to_fill_a_hole_that_the_embedding_shows() -> None:
    torch.manual_seed(0)
    net = MaskEvidence(embedding=4)
    truth = torch.zeros(1, 1, 64, 64)
    truth[..., 16:48, 16:48] = 1
    given = 10 * truth - 5
    given[..., 24:40, 24:40] = -5
    cells = torch.nn.functional.avg_pool2d(truth, 8)
    embedding = torch.cat((cells, 1 - cells, torch.zeros(1, 2, 8, 8)), 1)
    detail = torch.zeros(1, 16, 32, 32)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        logits, _ = net(detail, embedding, given)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = (net(detail, embedding, given)[0] > 0) == (truth > 0.5)
    assert right.float().mean() > 0.98
