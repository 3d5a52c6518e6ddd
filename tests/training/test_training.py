from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from segspn.training.corrupt import coarse_scores
from segspn.training.loop import LoopConfig, learning_rate, train
from segspn.training.parent import balanced_bce, matched_labels, mean_iou
from segspn.training.spn import band


class Noise(Dataset[Tensor]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return torch.randn(4, generator=torch.Generator().manual_seed(index))


def fit_sum(model: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
    loss = (model(batch)[:, 0] - batch.sum(1)).square().mean()
    return loss, {"loss": loss.item()}


def config(**changes: int) -> LoopConfig:
    return LoopConfig(**{"steps": 60, "batch": 8, "workers": 0, "log_every": 10, **changes}, lr=0.1)


def test_training_learns_and_logs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = train(nn.Linear(4, 1), Noise(480), fit_sum, config(), tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [10, 20, 30, 40, 50, 60]
    assert log[-1]["loss"] < 0.05 * log[0]["loss"]
    assert isinstance(trained, nn.Linear) and not trained.training


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    calls = 0

    def dies(model: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        nonlocal calls
        calls += 1
        if calls == 37:
            raise Killed
        return fit_sum(model, batch)

    def fresh() -> nn.Linear:
        torch.manual_seed(3)
        return nn.Linear(4, 1)

    # A checkpoint at every log line: the kill at step 37 must fall back to step 30.
    often = LoopConfig(steps=60, batch=8, workers=0, log_every=10, checkpoint_minutes=0.0)
    whole = train(fresh(), Noise(480), fit_sum, often, tmp_path / "whole")
    with pytest.raises(Killed):
        train(fresh(), Noise(480), dies, often, tmp_path / "killed")
    resumed = train(fresh(), Noise(480), fit_sum, often, tmp_path / "killed")
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]


def test_learning_rate_warms_up_and_falls_to_one_percent() -> None:
    loop = LoopConfig(steps=1100, lr=1.0, warmup=100)
    assert learning_rate(loop, 0) == pytest.approx(0.01)
    assert learning_rate(loop, 100) == pytest.approx(1.0)
    assert learning_rate(loop, 600) == pytest.approx(0.505)
    assert learning_rate(loop, 1100) == pytest.approx(0.01)


def test_balanced_loss_gives_both_classes_the_same_say() -> None:
    """At logit 0 every pixel costs log 2; eq. 1's weights make each class count 2 s (1 - s)."""
    target = torch.zeros(1, 1, 10, 10)
    target[..., :2, :] = 1  # 20 % foreground
    expected = 2 * np.log(2) * (0.2 * 0.8 + 0.8 * 0.2)
    assert balanced_bce(torch.zeros_like(target), target).item() == pytest.approx(expected, rel=1e-5)


def test_matching_copies_labels_of_identical_cells() -> None:
    keys = nn.functional.normalize(torch.randn(1, 32, 3, 4, generator=torch.manual_seed(0)), dim=1)
    labels = torch.rand(1, 2, 6, 8)
    voted = matched_labels(keys, keys.flip(3), labels, torch.tensor(200.0))
    # Cells are mirrored as wholes; the 2x2 values inside a cell keep their places.
    expected = labels.unflatten(3, (4, 2)).flip(3).flatten(3)
    assert torch.allclose(voted, expected, atol=1e-3)


def test_band_is_as_wide_as_said() -> None:
    mask = np.zeros((1, 40), bool)
    mask[:, 20:] = True
    assert np.flatnonzero(band(mask, 3)[0]).tolist() == list(range(17, 23))


def test_corruption_is_a_score_map_that_still_shows_the_object() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((128, 128), bool)
    mask[30:100, 40:110] = True
    truth = mask.reshape(32, 4, 32, 4).mean((1, 3)) > 0.5
    ious = []
    for _ in range(20):
        scores = coarse_scores(mask, rng)
        assert scores.shape == (32, 32) and scores.dtype == np.float32
        assert scores.min() >= 0 and scores.max() <= 1
        found = scores > 0.5
        ious.append((found & truth).sum() / (found | truth).sum())
    assert np.mean(ious) > 0.7  # recognisable
    assert np.mean(ious) < 0.99  # but corrupted


def test_mean_iou_counts_known_objects_with_truth() -> None:
    target = torch.zeros(1, 3, 2, 4)
    target[0, 0, :, :2] = 1  # found by half
    target[0, 1, 0, 0] = 1  # missed, but unknown: does not count
    found = torch.zeros(1, 3, 2, 4, dtype=torch.bool)
    found[0, 0, 0, :2] = True
    found[0, 2, 0, 0] = True  # no truth: does not count
    known = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert mean_iou(found, target, known) == pytest.approx(0.5)
