"""Whole evaluations over small folders, and their agreement with an independent tool."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segspn import InputError
from segspn.evaluation import boundary_f, evaluate_davis, region_j, run_and_evaluate


def evaluate(data, year: int = 2017, **kwargs):
    kwargs.setdefault("plots", False)
    return evaluate_davis(data.root, year, "val", data.results, progress=False, **kwargs)


def scores(evaluation) -> dict[str, tuple[float, float]]:
    return {o.name: (o.j.mean, o.f.mean) for o in evaluation.objects}


def told(call, *args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_agrees_with_vos_benchmark(davis):
    VideoEvaluator = pytest.importorskip("vos_benchmark.benchmark").VideoEvaluator

    evaluation = evaluate(davis)
    judge = VideoEvaluator(str(davis.root / "Annotations" / "480p"), str(davis.results))
    expected = {}
    for name in davis.truth:
        _, j, f = judge(name)
        expected |= {f"{name}_{label}": (j[label] / 100, f[label] / 100) for label in j}
    found = scores(evaluation)
    assert list(found) == ["one_1", "three_2", "three_5", "three_9"] == sorted(expected)
    for name, pair in found.items():
        assert pair == pytest.approx(expected[name], abs=1e-12)
    assert len({round(j, 3) for j, _ in found.values()}) > 2


def test_every_frame_is_kept(davis):
    sequence = evaluate(davis).sequences[1]
    assert sequence.frames == tuple(f"{t:05d}" for t in range(1, 11))
    assert sequence.ids == (2, 5, 9)
    assert sequence.j.shape == sequence.f.shape == (3, 10)
    truth, found = davis.truth["three"][4] == 5, davis.found["three"][4] == 5
    assert sequence.j[1, 3] == region_j(found, truth)
    assert sequence.f[1, 3] == boundary_f(found, truth)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(davis, workers):
    one, other = evaluate(davis), evaluate(davis, workers=workers)
    for a, b in zip(one.sequences, other.sequences, strict=True):
        np.testing.assert_array_equal(a.j, b.j)
        np.testing.assert_array_equal(a.f, b.f)


def test_extra_ids_in_results_are_ignored(davis):
    before = scores(evaluate(davis))
    for path in (davis.results / "one").glob("*.png"):
        labels = np.array(Image.open(path))
        labels[-6:, -6:] = 77
        Image.fromarray(labels).save(path)
    assert davis.truth["one"][:, -6:, -6:].max() == davis.found["one"][:, -6:, -6:].max() == 0
    assert scores(evaluate(davis)) == before


def test_a_missing_object_scores_zero(write_davis, davis):
    for path in (davis.results / "three").glob("*.png"):
        labels = np.array(Image.open(path))
        labels[labels == 5] = 0
        Image.fromarray(labels).save(path)
    found = scores(evaluate(davis))
    assert found["three_5"] == (0.0, 0.0)
    assert found["three_2"][0] > 0 and found["three_9"][0] > 0


def test_an_object_that_appears_later_is_not_scored(write_davis):
    truth = np.zeros((4, 20, 20), np.int32)
    truth[:, 4:9, 4:9] = 3
    truth[2:, 12:16, 12:16] = 4
    assert scores(evaluate(write_davis({"late": truth}, {"late": truth}))) == {"late_3": (1.0, 1.0)}


def test_first_and_last_results_may_be_missing_or_wrong(davis):
    before = scores(evaluate(davis))
    Image.fromarray(np.full((48, 64), 1, np.uint8)).save(davis.results / "one" / "00000.png")
    (davis.results / "one" / "00008.png").unlink()
    assert scores(evaluate(davis)) == before


def test_2016_is_binary(write_davis):
    truth = np.zeros((4, 20, 20), np.int32)
    truth[:, 4:9, 4:9], truth[:, 10:14, 10:14] = 255, 7
    found = np.where(truth == 255, 38, truth)
    found[:, 10:14, 12:14] = 0
    evaluation = evaluate(write_davis({"a": truth}, {"a": found}, year=2016), year=2016)
    (only,) = evaluation.objects
    assert only.name == "a_1"
    assert only.j.mean == pytest.approx((25 + 8) / (25 + 16))


def test_void_is_background_in_2017(write_davis):
    truth = np.zeros((4, 20, 20), np.int32)
    truth[:, 4:9, 4:9], truth[:, 9:14, 4:9] = 1, 255
    found = np.zeros_like(truth)
    found[:, 4:14, 4:9] = 1
    assert scores(evaluate(write_davis({"a": truth}, {"a": found})))["a_1"][0] == 25 / 50


def test_csvs(davis, tmp_path):
    out = tmp_path / "some" / "where"
    evaluation = evaluate(davis, out=out)
    assert sorted(p.name for p in out.iterdir()) == [
        "global_results-val.csv",
        "per-sequence_results-val.csv",
    ]
    overall = list(csv.reader((out / "global_results-val.csv").open()))
    assert overall[0] == "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay".split(",")
    t = evaluation.total
    values = (t.jf, t.j.mean, t.j.recall, t.j.decay, t.f.mean, t.f.recall, t.f.decay)
    assert overall[1:] == [[f"{value:.3f}" for value in values]]
    rows = list(csv.DictReader((out / "per-sequence_results-val.csv").open()))
    assert list(rows[0]) == ["Sequence", "J-Mean", "F-Mean"]
    assert [row["Sequence"] for row in rows] == ["one_1", "three_2", "three_5", "three_9"]
    assert rows[2]["J-Mean"] == f"{evaluation.objects[2].j.mean:.3f}"
    assert list(davis.results.glob("*.csv")) == []


def test_stale_csvs_are_replaced(davis):
    evaluate(davis)
    path = davis.results / "per-sequence_results-val.csv"
    before = path.read_text()
    for mask in (davis.results / "one").glob("*.png"):
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(mask)
    evaluate(davis)
    assert "one_1,0.000,0.000" in path.read_text() and "one_1,0.000" not in before
    assert not [p for p in davis.results.iterdir() if p.name.startswith(".")]


def test_missing_frames_are_counted_and_the_first_named(davis):
    for t in (3, 4, 10):
        (davis.results / "three" / f"{t:05d}.png").unlink()
    message = told(evaluate, davis)
    assert "three: 3 of 10 frames missing" in message and "00003.png" in message
    assert not list(davis.results.glob("*.csv"))


def test_missing_sequence(davis):
    (davis.results / "three").rename(davis.results / "threee")
    message = told(evaluate, davis)
    assert "1 of 2 sequences" in message and message.count("three") == 1


def test_missing_results_folder(davis):
    message = told(evaluate_davis, davis.root, 2017, "val", davis.results / "nope", progress=False)
    assert "nope" in message


def test_results_of_another_size(davis):
    path = davis.results / "three" / "00005.png"
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(path)
    message = told(evaluate, davis)
    assert str(path) in message and "32x24" in message and "64x48" in message


def test_unreadable_result(davis):
    path = davis.results / "three" / "00005.png"
    path.write_bytes(b"no picture")
    assert "00005.png" in told(evaluate, davis)


def test_truth_that_cannot_be_scored(write_davis):
    blank = np.zeros((4, 8, 8), np.int32)
    binary = blank.copy()
    binary[:, 2:5, 2:5] = 255
    data = write_davis({"a": binary}, {"a": binary})
    assert "2016" in told(evaluate, data)
    for t in (2, 3):
        (data.root / "Annotations" / "480p" / "a" / f"{t:05d}.png").unlink()
    assert "3 or more" in told(evaluate, data)


def test_senseless_workers(davis):
    assert "0 workers" in told(evaluate, davis, workers=0)


class Copier:
    """Stands in for a method: copies the results of a dataset, and notes what it was given."""

    def __init__(self, found, leave_out: int = 0) -> None:
        self.found, self.leave_out = found, leave_out
        self.calls: list[tuple[Path, Path, Path]] = []

    def __call__(self, frames: Path, first_mask: Path, out: Path) -> None:
        self.calls.append((frames, first_mask, out))
        out.mkdir(parents=True, exist_ok=True)
        stack = self.found[frames.name]
        for t, labels in enumerate(stack[: len(stack) - self.leave_out]):
            Image.fromarray(labels.astype(np.uint8)).save(out / f"{t:05d}.png")


def run(data, results: Path, segment, **kwargs):
    return run_and_evaluate(
        data.root, 2017, "val", results, segment, plots=False, progress=False, **kwargs
    )


def test_run_segments_what_is_not_complete(davis, tmp_path):
    results, copier = tmp_path / "made", Copier(davis.found)
    expected = scores(evaluate(davis))
    assert scores(run(davis, results, copier)) == expected
    frames, mask, out = copier.calls[1]
    assert frames == davis.root / "JPEGImages" / "480p" / "three"
    assert mask == davis.root / "Annotations" / "480p" / "three" / "00000.png"
    assert out == results / "three"

    copier.calls.clear()
    run(davis, results, copier)
    assert copier.calls == []
    # The last frame is not scored, but a result without it is not complete; nor is an empty file.
    (results / "one" / "00008.png").write_bytes(b"")
    assert scores(run(davis, results, copier)) == expected
    assert [call[2].name for call in copier.calls] == ["one"]

    copier.calls.clear()
    run(davis, results, copier, overwrite=True)
    assert len(copier.calls) == 2


def test_run_says_when_the_method_leaves_frames_out(davis, tmp_path):
    with pytest.raises(RuntimeError, match="2 of 9 frames"):
        run(davis, tmp_path / "made", Copier(davis.found, leave_out=2))


def test_run_needs_frames(davis, tmp_path):
    (davis.root / "JPEGImages" / "480p" / "three").rename(davis.root / "elsewhere")
    copier = Copier(davis.found)
    assert "no frames" in told(run, davis, tmp_path / "made", copier)
    assert copier.calls == []
