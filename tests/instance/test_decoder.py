from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segspn.instance import Decoder
from segspn.instance.decoder import CHANNELS, clues, highest_other
from segspn.instance.memory import Votes
from segspn.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")
H, W = 6, 8


def inputs(count: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    return (
        torch.randn(batch, 96, H, W, generator=generator),
        torch.randn(batch, count, CHANNELS, H, W, generator=generator),
    )


def stirred() -> Decoder:
    """A decoder whose last layers are not at their start, where they do nothing."""
    decoder = Decoder()
    with torch.no_grad():
        for layer in (decoder.first, decoder.second):
            layer.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    return decoder


def told(share: Tensor, count: int = 1) -> Tensor:
    """Clues that all say the same: ``share`` ``(1, N, 2h, 2w)`` of the object in each cell."""
    votes = Votes(torch.stack((share, share)), torch.full((4, 1, count, H, W), 0.8))
    score = torch.nn.functional.pixel_unshuffle(2 * share[0, :, None] - 1, 2)[None]
    return clues(votes, score, score, share, torch.zeros(1, 1, 2 * H, 2 * W))


@torch.inference_mode()
def test_clues_by_hand() -> None:
    share = torch.zeros(1, 2, 2 * H, 2 * W)
    share[:, 0, :4, :4], share[:, 1, 6:8, 6:8] = 1, 1
    known = told(share, 2)
    assert known.shape == (1, 2, CHANNELS, H, W) and known.abs().max() < 2.5
    odds, last, others = known[:, :, 0:4], known[:, :, 16:20], known[:, :, 24:28]
    assert (odds[0, 0, :, :2, :2] > 2).all() and (odds[0, 0, :, 3:] < -2).all()
    assert torch.equal(last[0, 1], 2 * torch.nn.functional.pixel_unshuffle(share[:, 1:], 2)[0] - 1)
    assert torch.equal(others[0, 0] > 0, last[0, 1] > 0)  # the one object's others are the other
    near = known[0, 0, -2:]
    assert near[0, 0, 0] > near[0, -1, -1]


@torch.inference_mode()
def test_an_object_knows_the_strongest_of_its_rivals() -> None:
    share = torch.zeros(1, 3, 2 * H, 2 * W)
    share[:, 0, :4, :4], share[:, 1, 6:8, 6:8], share[:, 2, 6:8, 10:12] = 1, 1, 1
    known = told(share, 3)
    first, rival = known[0, :, :4], known[0, :, 28:32]
    assert torch.equal(rival[0], torch.maximum(first[1], first[2]))
    assert torch.equal(rival[2], torch.maximum(first[0], first[1]))
    alone = told(share[:, :1])[0, 0, 28:40]
    assert torch.equal(alone[:8], torch.full_like(alone[:8], first.min()))  # nothing speaks against
    assert (alone[8:] == -1).all()


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("dim", [1, -3])
def test_highest_of_the_others(count: int, dim: int) -> None:
    maps = torch.randn(2, count, 3, 4, generator=torch.Generator().manual_seed(0))
    maps[:, -1, 0] = maps[:, 0, 0]  # two that are equal
    found = highest_other(maps, -7.0, dim)
    for n in range(count):
        others = [maps[:, k] for k in range(count) if k != n]
        wanted = torch.stack(others).amax(0) if others else torch.full_like(maps[:, n], -7.0)
        assert torch.equal(found[:, n], wanted)


def test_nearness_is_a_mean_as_far_as_the_frame_goes() -> None:
    shares = torch.rand(1, 2, 24, 32, generator=torch.Generator().manual_seed(1))
    votes = Votes(torch.rand(3, 1, 2, 24, 32), torch.rand(4, 1, 2, 12, 16))
    scores = torch.zeros(1, 2, 4, 12, 16)
    near = clues(votes, scores, scores, shares, torch.zeros(1, 1, 24, 32))[:, :, -2:]
    cells = torch.nn.functional.avg_pool2d(shares, 2)
    for k, radius in enumerate((3, 9)):
        for y, x in ((0, 0), (5, 7), (11, 15), (2, 14)):
            square = cells[
                ..., max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1
            ]
            assert torch.allclose(near[:, :, k, y, x], square.mean((2, 3)), atol=1e-6)


def test_objects_do_not_depend_on_each_other() -> None:
    decoder = stirred()
    embedding, known = inputs(3)
    together = decoder(embedding, known)[1]
    assert together.shape == (1, 3, 2 * H, 2 * W)
    for k in range(3):
        alone = decoder(embedding, known[:, k : k + 1])[1]
        assert torch.allclose(together[:, k : k + 1], alone, atol=1e-4)


@torch.inference_mode()
def test_batches_keep_their_own_frames() -> None:
    decoder = stirred()
    embedding, known = inputs(2, batch=2)
    both = decoder(embedding, known)
    for k in range(2):
        alone = decoder(embedding[k : k + 1], known[k : k + 1])
        for together, one in zip(both, alone, strict=True):
            assert torch.allclose(together[k : k + 1], one, atol=1e-4)


@torch.inference_mode()
def test_the_shipped_decoder_believes_what_all_clues_say() -> None:
    decoder = Decoder()
    load_weights(decoder, "decoder")
    share = torch.zeros(1, 1, 2 * H, 2 * W)
    share[..., 3:9, 4:12] = 1
    logits = decoder(torch.zeros(1, 96, H, W), told(share))[1]
    assert (logits[..., 5:7, 6:10] > 0).all()
    assert (logits[..., :1, :] < 0).all() and (logits[..., :, 15:] < 0).all()
