from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import segspn.evaluation.plot as plot_module
from segspn import InputError
from segspn.evaluation import (
    VARIANTS,
    Evaluation,
    SequenceScores,
    ablation_table,
    evaluate_davis,
    plot_frames,
    print_scores,
    run_ablation,
    write_csvs,
)
from segspn.evaluation.ablation import folder_of


def sequence(name: str, objects: int, frames: int = 5, value: float = 0.5) -> SequenceScores:
    stems = tuple(f"{t:05d}" for t in range(1, frames + 1))
    j = np.full((objects, frames), value)
    return SequenceScores(name, stems, tuple(range(1, objects + 1)), j, j / 2)


EVALUATION = Evaluation(2017, "val", (sequence("dog", 1, value=0.75), sequence("gold-fish", 3)))


def printed(evaluation: Evaluation, per_object: bool = False, width: int = 80) -> list[str]:
    stream = io.StringIO()
    print_scores(evaluation, Console(file=stream, width=width), per_object)
    return stream.getvalue().splitlines()


def row(lines: list[str], start: str) -> list[str]:
    (line,) = [line for line in lines if line.strip().startswith(start)]
    return line.strip()[len(start) :].split()


def test_table_fits_80_columns_and_averages_as_the_protocol_does():
    lines = printed(EVALUATION)
    dog = ["0.562", "0.750", "1.000", "0.000", "0.375", "0.000", "0.000"]
    assert row(lines, "dog") == dog
    assert row(lines, "gold-fish (3)")[:2] == ["0.375", "0.500"]
    # (0.75 + 3 * 0.5) / 4, not (0.75 + 0.5) / 2
    assert row(lines, "Global")[1] == "0.562"


def test_table_per_object():
    lines = printed(EVALUATION, per_object=True)
    assert [row(lines, name)[1] for name in ("dog_1", "gold-fish_1", "gold-fish_3")] == [
        "0.750",
        "0.500",
        "0.500",
    ]


def test_csvs_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file"):
        write_csvs(EVALUATION, tmp_path / "file" / "out")
    (tmp_path / "global_results-val.csv").mkdir()
    with pytest.raises(InputError, match="global_results-val.csv"):
        write_csvs(EVALUATION, tmp_path)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_plot_has_a_panel_per_sequence(tmp_path, count):
    pytest.importorskip("matplotlib")
    sequences = tuple(sequence(f"s{n}", 1 + n % 3, frames=1 + 4 * n) for n in range(count))
    path = plot_frames(Evaluation(2017, "val", sequences), tmp_path / "new" / "plot.png")
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width > 600
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels < 250).mean() > 0.01  # something is drawn
    assert [p.name for p in path.parent.iterdir()] == ["plot.png"]


def test_without_matplotlib(tmp_path, monkeypatch, davis, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"segspn\[plots\]"):
        plot_frames(EVALUATION, tmp_path / "plot.png")
    evaluate_davis(davis.root, 2017, "val", davis.results, progress=False)
    assert "segspn[plots]" in capsys.readouterr().err
    assert len(list(davis.results.glob("*.csv"))) == 2
    assert list(davis.results.glob("*.png")) == []


def test_evaluation_draws_by_default(davis):
    pytest.importorskip("matplotlib")
    assert plot_module.can_plot()
    evaluate_davis(davis.root, 2017, "val", davis.results, progress=False)
    assert (davis.results / "per-frame_results-val.png").stat().st_size > 10_000


def variant(found, lost: int):
    """A method that loses the object of the given id."""

    def segment(frames, first_mask, out):
        out.mkdir(parents=True, exist_ok=True)
        for t, labels in enumerate(found[frames.name]):
            kept = np.where(labels == lost, 0, labels).astype(np.uint8)
            Image.fromarray(kept).save(out / f"{t:05d}.png")

    return segment


def test_ablation(davis, tmp_path):
    variants = {VARIANTS[0]: variant(davis.truth, 0), VARIANTS[1]: variant(davis.truth, 5)}
    rows = run_ablation(
        davis.root, 2017, "val", tmp_path / "made", variants, tmp_path / "out", progress=False
    )
    assert [r.variant for r in rows] == ["full", "without CRAF"]
    assert (tmp_path / "out" / "ablation-val.csv").read_text().splitlines() == [
        "Variant,J-Mean,J-Recall,F-Mean,F-Recall,Global",
        "full,1.000,1.000,1.000,1.000,1.000",
        "without CRAF,0.750,0.750,0.750,0.750,0.750",
    ]
    assert (tmp_path / "out" / "ablation-val.md").read_text().splitlines() == [
        "| | J mean (recall) | F mean (recall) | global |",
        "|---|---|---|---|",
        "| full | 1.000 (1.000) | 1.000 (1.000) | 1.000 |",
        "| without CRAF | 0.750 (0.750) | 0.750 (0.750) | 0.750 |",
    ]
    assert (tmp_path / "made" / "without-craf" / "global_results-val.csv").is_file()
    stream = io.StringIO()
    Console(file=stream, width=80).print(ablation_table(rows))
    assert "0.750 (0.750)" in stream.getvalue()


def test_ablation_folders():
    assert [folder_of(name) for name in VARIANTS] == [
        "full",
        "without-craf",
        "without-craf-spn",
        "without-craf-spn-first-frame-tuning",
    ]


@pytest.mark.parametrize("names", [(), ("a b", "A-B"), ("--",)])
def test_ablation_needs_names_that_differ(davis, tmp_path, names):
    variants = {name: variant(davis.truth, 0) for name in names}
    with pytest.raises(InputError):
        run_ablation(davis.root, 2017, "val", tmp_path, variants, progress=False)
