from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from segspn.errors import InputError
from segspn.jobs import Interrupted
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


def config(**changes: Any) -> LoopConfig:
    given = {"steps": 60, "batch": 8, "workers": 0, "log_every": 10, "lr": 0.1, "tensorboard": False}
    return LoopConfig(**{**given, **changes})


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

    # A checkpoint after every step: the kill in step 37 falls between two lines of the log.
    often = config(checkpoint_minutes=0.0)
    whole = train(fresh(), Noise(480), fit_sum, often, tmp_path / "whole")
    with pytest.raises(Killed):
        train(fresh(), Noise(480), dies, often, tmp_path / "killed")
    resumed = train(fresh(), Noise(480), fit_sum, often, tmp_path / "killed")
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]


def test_noise_in_the_loss_is_repeated_too(tmp_path: Path) -> None:
    """Whatever a loss draws from torch's generator depends on the step, not on what came before."""
    seen: list[float] = []

    def noisy(model: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        seen.append(torch.rand(()).item())
        return fit_sum(model, batch)

    train(nn.Linear(4, 1), Noise(480), noisy, config(steps=4), tmp_path / "a")
    torch.rand(5)
    train(nn.Linear(4, 1), Noise(480), noisy, config(steps=4), tmp_path / "b")
    assert seen[:4] == seen[4:] and len(set(seen[:4])) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_vanished_is_told_in_one_line(tmp_path: Path, workers: int) -> None:
    class Gone(Noise):
        def __getitem__(self, index: int) -> Tensor:
            if index > 20:
                raise InputError("a.jpg: not a readable image; replace or delete it")
            return super().__getitem__(index)

    with pytest.raises(InputError) as caught:
        train(nn.Linear(4, 1), Gone(480), fit_sum, config(workers=workers), tmp_path)
    assert str(caught.value) == "a.jpg: not a readable image; replace or delete it"


def test_parts_have_the_gradient_of_the_whole(tmp_path: Path) -> None:
    def fresh() -> nn.Linear:
        torch.manual_seed(3)
        return nn.Linear(4, 1)

    whole, halves = (
        train(fresh(), Noise(80), fit_sum, config(steps=10, parts=n), tmp_path / str(n)) for n in (1, 4)
    )
    for one, two in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.allclose(one, two, rtol=1e-4)


def test_mixed_precision_lowers_what_autocast_lowers(tmp_path: Path) -> None:
    kinds = []

    def spy(model: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        kinds.append(model(batch).dtype)
        return fit_sum(model, batch)

    trained = train(nn.Linear(4, 1), Noise(480), spy, config(precision="bfloat16"), tmp_path)
    assert set(kinds) == {torch.bfloat16}
    assert next(trained.parameters()).dtype == torch.float32
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.1 * log[0]["loss"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    def go(**changes: Any) -> None:
        given = {"identity": {"data": changes.pop("data", "a")}, "seed": changes.pop("seed", 0)}
        train(nn.Linear(4, 1), Noise(80), fit_sum, config(steps=3, **changes), tmp_path, **given)

    go()
    go(workers=1, log_every=1)  # these may differ
    for changes, told in (
        ({"lr": 0.2}, "made with lr 0.1, now 0.2"),
        ({"data": "b"}, "made with data 'a', now 'b'"),
        ({"seed": 1}, "made with seed 0, now 1"),
    ):
        with pytest.raises(InputError, match=told):
            go(**changes)
    (tmp_path / "checkpoint.pt").write_bytes(b"cut off")
    with pytest.raises(InputError, match="not a checkpoint"):
        go()


def test_a_line_of_the_log_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    train(nn.Linear(4, 1), Noise(80), fit_sum, config(log_every=2, steps=4), tmp_path)
    log = tmp_path / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole[:-20])
    (tmp_path / "checkpoint.pt").unlink()
    torch.manual_seed(0)
    train(nn.Linear(4, 1), Noise(80), fit_sum, config(log_every=2, steps=4), tmp_path)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [2, 4]


def test_ctrl_c_saves_and_the_same_call_goes_on(tmp_path: Path) -> None:
    def fresh() -> nn.Linear:
        torch.manual_seed(3)
        return nn.Linear(4, 1)

    calls = 0

    def stopped(model: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        nonlocal calls
        calls += 1
        if calls == 7:
            signal.raise_signal(signal.SIGINT)
        return fit_sum(model, batch)

    whole = train(fresh(), Noise(480), fit_sum, config(), tmp_path / "whole")
    with pytest.raises(Interrupted, match="stopped after step 7 of 60; the same command goes on"):
        train(fresh(), Noise(480), stopped, config(), tmp_path / "stopped")
    resumed = train(fresh(), Noise(480), fit_sum, config(), tmp_path / "stopped")
    assert torch.equal(*(next(m.parameters()) for m in (whole, resumed)))
    assert len({(tmp_path / n / "log.jsonl").read_text() for n in ("whole", "stopped")}) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"precision": "half"}, "float32 or bfloat16"),
        ({"steps": 0}, "steps must be 1 or more"),
        ({"parts": 3}, "8 cannot be cut into 3 parts"),
    ],
)
def test_loop_config_is_checked(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(**changes)


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
