from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from segspn.errors import InputError
from segspn.foreground import ForegroundConfig, NetForegroundConfig
from segspn.instance import NetInstanceConfig
from segspn.models import MODELS
from segspn.presets import Preset, load_preset, preset_names


def test_shipped_presets_load() -> None:
    assert preset_names() == ["default", "fast", "paper", "quality"]
    for name in preset_names():
        preset = load_preset(name)
        assert preset.name == name and preset.description and preset.model in MODELS
        assert load_preset(preset) is preset


def test_paper_is_as_published() -> None:
    paper = load_preset("paper")
    assert isinstance(paper.foreground, NetForegroundConfig)
    assert isinstance(paper.instance, NetInstanceConfig)
    for room in (paper.foreground, paper.instance):
        fit = room.fit
        assert (fit.steps, fit.lr, fit.momentum, fit.weight_decay) == (30_000, 1e-8, 0.99, 5e-4)
        assert fit.halve_every == 10_000
    a = paper.augment
    assert (a.copies, a.scale, a.rotation, a.shift, a.flip, a.colour) == (1000, 0.05, 5, 0.1, True, 0)
    assert paper.craf.parameters == "paper"
    assert paper.threshold == paper.foreground.threshold == 0.5


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("threshold: 4e-1", encoding="utf-8")  # a text in YAML 1.1
    assert load_preset(str(path)).threshold == 0.4


def test_quality_remembers_more_than_default_with_the_same_models() -> None:
    default, quality = load_preset("default"), load_preset("quality")
    assert quality.weights == default.weights and quality.model == default.model
    assert quality.instance.memory.recent > default.instance.memory.recent


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sed: 1", "unknown value 'sed'; known: augment, bfloat16, craf,"),
        ("seed: one", "seed must be int, not 'one'"),
        ("seed: true", "seed must be int, not True"),
        ("threshold: high", "threshold must be float, not 'high'"),
        ("instance: 3", "instance must be a mapping"),
        ("foreground: {fit: {step: 3}}", "foreground: fit: unknown value 'step'; known: batch, lr"),
        ("model: vit", "unknown model 'vit'; choose one of lite, resnet101"),
        ("model: [1]", "model must be str, not [1]"),
        ("model: resnet101\ninstance: {memory: {}}", "instance: unknown value 'memory'; known: fit"),
        ("model: resnet101\nweights: {vgg_convention: tf}", "convention must be caffe or torchvision"),
        ("foreground: {fit: {halve_every: 1}}", "unknown value 'halve_every'"),
        ("side: wide", "side must be int, not 'wide'"),
        ("- 1", "a preset is a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_mistakes_in_a_file_are_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_preset(str(path))
    message = str(caught.value)
    assert message.startswith(str(path)) and told in message and "\n" not in message


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown preset 'best'; choose one of default, fast, paper"):
        load_preset("best")
    with pytest.raises(InputError, match="no such preset file"):
        load_preset(str(tmp_path / "absent.yaml"))


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 4\nforeground: {threshold: 1}\naugment: {copies: 2}\n", encoding="utf-8")
    preset = load_preset(str(path))
    default = ForegroundConfig()
    assert (preset.name, preset.seed, preset.augment.copies) == ("mine", 4, 2)
    assert preset.foreground == replace(default, threshold=1.0)
    path.write_text("model: resnet101", encoding="utf-8")
    assert load_preset(str(path)).foreground == NetForegroundConfig()


def test_sections_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="model resnet101 needs weights to be ResNet101Weights"):
        Preset("mine", model="resnet101")
