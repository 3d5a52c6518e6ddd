from __future__ import annotations

import pytest
import torch

from segspn.instance import Decoder
from segspn.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def inputs(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return (
        torch.randn(1, 96, 6, 7, generator=generator),
        torch.rand(1, count, 12, 14, generator=generator),
        torch.rand(1, count, 12, 14, generator=generator),
    )


@torch.inference_mode()
def test_without_a_correction_it_hands_the_memory_on() -> None:
    decoder = Decoder()
    torch.nn.init.zeros_(decoder.out.weight)
    torch.nn.init.zeros_(decoder.out.bias)
    embedding, memory, previous = inputs(2)
    assert torch.allclose(decoder(embedding, memory, previous), torch.logit(memory, 1e-4), atol=1e-5)


@torch.inference_mode()
def test_objects_do_not_depend_on_each_other() -> None:
    decoder = Decoder()
    embedding, memory, previous = inputs(3)
    together = decoder(embedding, memory, previous)
    assert together.shape == (1, 3, 12, 14)
    for k in range(3):
        alone = decoder(embedding, memory[:, k : k + 1], previous[:, k : k + 1])
        assert torch.allclose(together[:, k : k + 1], alone, atol=1e-4)


@torch.inference_mode()
def test_batches_keep_their_own_frames() -> None:
    decoder = Decoder()
    first, second = inputs(2), [x.flip(2) for x in inputs(2)]
    both = decoder(*(torch.cat(pair) for pair in zip(first, second, strict=True)))
    assert torch.allclose(both[:1], decoder(*first), atol=1e-4)
    assert torch.allclose(both[1:], decoder(*second), atol=1e-4)


@torch.inference_mode()
def test_the_shipped_decoder_believes_the_memory_where_the_object_was() -> None:
    """A blurred vote inside the last mask becomes surer, the same vote far from it does not."""
    decoder = Decoder()
    load_weights(decoder, "decoder")
    memory = torch.full((1, 1, 48, 48), 0.01)
    memory[..., 8:20, 8:20] = memory[..., 28:40, 28:40] = 0.6
    previous = torch.zeros(1, 1, 48, 48)
    previous[..., 8:20, 8:20] = 1
    logits = decoder(torch.zeros(1, 96, 24, 24), memory, previous)
    assert logits[..., 11:17, 11:17].mean() > logits[..., 31:37, 31:37].mean() + 0.5
