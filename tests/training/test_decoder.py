from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segspn.backbone import load_backbone
from segspn.data import ClipConfig, DataConfig, Stills, open_data
from segspn.foreground import ParentNet
from segspn.instance import Decoder
from segspn.instance.decoder import CHANNELS, CLUES
from segspn.instance.learner import CELLS
from segspn.training.decoder import Clips, DecoderTrainer, KeptClips, decoder_loss, hide, spoil

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = ClipConfig(size=64, frames=3)


@pytest.fixture
def stills(data: Path) -> Stills:
    return open_data((DataConfig("my_data"),), data)


def batch_of(data: Clips | KeptClips, *which: int) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = torch.utils.data.default_collate([data[i] for i in which])
    return batch


def test_a_kept_clip_is_drawn_once_and_comes_again(stills: Stills, tmp_path: Path) -> None:
    backbone = load_backbone()
    clips = Clips(stills, 2, CONFIG)
    kept = KeptClips(clips, 20, backbone, tmp_path / "kept")
    samples = [kept[i] for i in range(0, 20, 2)]  # ten times clip 0
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["0.safetensors"]
    drawn = clips[0]
    mirrored = [not np.array_equal(s["labels"], drawn["labels"]) for s in samples]
    assert 0 < sum(mirrored) < 10
    plain, turned = samples[mirrored.index(False)], samples[mirrored.index(True)]
    with torch.no_grad():
        features = backbone(torch.from_numpy(drawn["images"]).float())
    for stride in (4, 8, 16, 32):
        assert torch.allclose(plain[f"s{stride}"].float(), features[stride], rtol=1e-2, atol=1e-2)
    assert torch.equal(turned["labels"], plain["labels"].flip(-1))
    assert torch.equal(turned["flow"][:, 0], -plain["flow"][:, 0].flip(-1))
    assert torch.equal(turned["flow"][:, 1], plain["flow"][:, 1].flip(-1))
    # Another run of the same settings reads the file.
    again = KeptClips(clips, 20, torch.nn.Identity(), tmp_path / "kept")
    assert torch.equal(again[0]["s8"], samples[0]["s8"])


def test_clips_and_kept_clips_give_one_loss(stills: Stills, tmp_path: Path) -> None:
    backbone, clips = load_backbone(), Clips(stills, 2, CONFIG)
    kept = KeptClips(clips, 40, backbone, tmp_path)
    plain = next(i for i in range(0, 40, 2) if np.array_equal(kept[i]["labels"], clips[0]["labels"]))
    torch.manual_seed(0)
    model = DecoderTrainer(backbone, ParentNet(backbone.channels), Decoder()).train()
    losses = []
    for batch in (batch_of(clips, 0), {**batch_of(kept, plain), "seed": torch.zeros(1)}):
        losses.append(decoder_loss(model, batch)[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_the_embedding_learns_through_matching_and_classifier(stills: Stills) -> None:
    torch.manual_seed(0)
    backbone = load_backbone()
    model = DecoderTrainer(backbone, ParentNet(backbone.channels), Decoder()).train()
    before = {name: p.clone() for name, p in model.before.named_parameters()}
    loss, figures = decoder_loss(model, batch_of(Clips(stills, 2, CONFIG), 0, 1))
    loss.backward()
    assert {"iou", "iou_learner", "foreground"} <= set(figures)
    for part in (model.parent.trunk.expand, model.parent.key, model.decoder.first):
        assert part.weight.grad is not None and part.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in (*backbone.parameters(), *model.before.parameters()))
    assert all(torch.equal(p, before[name]) for name, p in model.before.named_parameters())
    assert model.parent.log_scale.grad is None  # the sharpness of matching stays


def test_spoilt_masks_stay_shares() -> None:
    shares = torch.zeros(4, 2, 24, 24)
    shares[:, 0, 2:12, 2:12], shares[:, 1, 10:22, 12:22] = 1, 1
    kinds = set()
    for seed in range(8):
        made = spoil(shares, torch.Generator().manual_seed(seed))
        assert made.min() >= 0 and made.sum(1).max() <= 1 + 1e-5
        kinds |= {round(float(m), 1) for m in made.mean((2, 3)).flatten()}
    assert len(kinds) > 1 and not torch.equal(made, shares)


def test_hiding_leaves_what_was_given_and_takes_clues_away() -> None:
    known = torch.ones(2, 3, CHANNELS, 12, 12)
    hidden = hide(known, torch.Generator().manual_seed(1))
    assert (known == 1).all() and hidden.shape == known.shape
    changed = (hidden != 1).any(4).any(3).any(1).any(0)
    first = slice(CELLS * CLUES.index("first"), CELLS * (CLUES.index("first") + 1))
    others = slice(CELLS * CLUES.index("others"), CELLS * (CLUES.index("others") + 1))
    assert changed[first].all() and not changed[others].any()
