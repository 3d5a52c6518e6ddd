"""Each ``segspn train`` command, a few steps long, killed and shared among processes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from segspn.errors import InputError
from segspn.foreground import ParentNet
from segspn.instance import Decoder
from segspn.presets import load_preset
from segspn.prompts.net import PromptNet
from segspn.spn import LightGuidance, MaskEvidence, Propagation
from segspn.training import TrainConfig, load_recipe, recipe_names, train_all, train_stage
from segspn.weights import load_weights

CHANNELS = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}


def settings(steps: int, batch: int, **loop: object) -> list[str]:
    values = {"steps": steps, "batch": batch, "workers": 0, "log_every": 1, "tensorboard": False, **loop}
    stages = ("parent", "decoder", "spn", "prompts", "matching")
    changed = [f"{s}.loop.{k}={json.dumps(v)}" for s in stages for k, v in values.items()]
    return changed + [f"{s}.size=64" for s in stages]


def recipe(steps: int = 2, batch: int = 1, **loop: object) -> TrainConfig:
    return load_recipe("finetune", settings(steps, batch, **loop))


@pytest.mark.usefixtures("one_thread")
def test_all_leaves_weights_and_a_preset_that_load(data: Path, tmp_path: Path) -> None:
    paths = train_all(recipe(precision="bfloat16"), data, tmp_path / "out")
    found = {path.stem: path for path in paths}
    load_weights(ParentNet(CHANNELS), str(found["parent"]))
    load_weights(Decoder(), str(found["decoder"]))
    load_weights(LightGuidance(CHANNELS), str(found["spn_guidance"]))
    load_weights(MaskEvidence(), str(found["spn_evidence"]))
    load_weights(Propagation(), str(found["spn_propagation"]))
    load_weights(PromptNet(CHANNELS), str(found["prompts"]))
    preset, default = load_preset(str(found["preset"])), load_preset("default")
    weights = preset.weights
    # But for the weights it is the default, so that the two can be compared.
    same = {"name": default.name, "description": default.description, "weights": default.weights}
    assert dataclasses.replace(preset, **same) == default
    assert weights.parent == str(found["parent"]) and weights.evidence == str(found["spn_evidence"])
    # The same call again finds everything done and leaves the same weights.
    before = load_file(found["decoder"])
    train_all(recipe(precision="bfloat16"), data, tmp_path / "out")
    after = load_file(found["decoder"])
    assert all(torch.equal(before[name], after[name]) for name in before)
    # A decoder belongs to its parent.
    with pytest.raises(InputError, match="made with parent"):
        train_stage("decoder", recipe(precision="bfloat16"), data, tmp_path / "out" / "decoder")


@pytest.mark.usefixtures("one_thread")
def test_pictures_of_input_target_and_prediction(data: Path, tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for stage in ("parent", "decoder", "spn"):
        train_stage(stage, recipe(tensorboard=True), data, tmp_path / stage)
        events = accumulators.EventAccumulator(str(tmp_path / stage / "tensorboard"))
        events.Reload()
        assert {"loss", "lr"} <= set(events.Tags()["scalars"])
        shown = events.Images(events.Tags()["images"][0])[-1]
        assert (shown.width, shown.height) == (3 * 64, 64)


def command(data: Path, out: Path, chosen: list[str]) -> list[str]:
    """Arguments of Python for what `train_stage` does with the same settings."""
    return ["-m", "segspn", "train", "parent", "--config", "finetune", "--stills", str(data),
            "--out", str(out), "--device", "cpu",
            *(x for setting in chosen for x in ("--set", setting))]  # fmt: skip


def environment() -> dict[str, str]:
    source = Path(__file__).parents[2] / "src"
    path = os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.mark.usefixtures("one_thread")
def test_kill_9_then_resume_continues_the_loss_curve(data: Path, tmp_path: Path) -> None:
    # A checkpoint a few times a second: the kill falls anywhere between two.
    chosen = settings(40, 2, workers=1, checkpoint_minutes=0.004)
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, *command(data, out, chosen)], env=environment(), stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    log = out / "log.jsonl"
    while not log.exists() or log.read_text().count("\n") < 12 or not (out / "checkpoint.pt").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    reached = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < reached < 40
    config = load_recipe("finetune", chosen)
    for name in ("whole", "killed"):
        train_stage("parent", config, data, tmp_path / name)
    curves = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "killed")]
    assert curves[0].count("\n") == 40 and curves[0] == curves[1]
    weights = [load_file(tmp_path / name / "parent.safetensors") for name in ("whole", "killed")]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.usefixtures("one_thread")
def test_two_processes_are_as_one_with_the_same_batch(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    chosen = settings(4, 4, parts=2)
    # What accelerate calls multi_gpu means several processes; on CPUs they talk by gloo.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
              "--main_process_port", "0"]  # fmt: skip
    line = [sys.executable, *launch, *command(data, tmp_path / "two", chosen)]
    run = subprocess.run(line, env=environment(), check=True, capture_output=True, text=True)
    assert run.stdout.split() == [str(tmp_path / "two" / "parent.safetensors")]
    train_stage("parent", load_recipe("finetune", chosen), data, tmp_path / "one")
    curves = [
        [json.loads(x)["loss"] for x in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(curves[0]) == 4
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_bad_samples_are_named_and_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "my_data/images/001.jpg").write_bytes(b"no jpeg")
    cv2.imwrite(str(data / "my_data/masks/002.png"), np.zeros((120, 160), np.uint8))
    with pytest.raises(InputError, match="2 of 4 samples are bad"):
        train_stage("parent", recipe(), data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    generous = load_recipe("finetune", [*settings(1, 1), "bad_share=0.5"])
    train_stage("parent", generous, data, tmp_path / "out")
    told = capsys.readouterr().err
    assert "001.jpg: not a readable image" in told and "002.png: no object" in told


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="my_data: no such folder"):
        train_stage("parent", recipe(), tmp_path, tmp_path / "out")


def test_shipped_recipes_load_and_say_all_their_values() -> None:
    assert recipe_names() == ["cpu", "finetune", "gpu"]
    for name in recipe_names():
        found = load_recipe(name)
        assert found.name == name and found.description and found.data


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("parent.loop.stepz=3", "parent: loop: unknown value 'stepz'"),
        ("parent.loop.steps=many", "steps must be int, not 'many'"),
        ("parent.loop.precision=half", "precision must be float32 or bfloat16"),
        ("data.0.kind=voc", "kind must be one of folder, davis"),
        ("data.3.weight=1", "there is no '3' there"),
        ("data=3", "data must be a list"),
        ("data=[{weight: 1}]", "root is missing"),
        ("parent.size=100", "multiple of 32"),
        ("parent.weights={other: 1.0, third: much}", "weights.third must be float"),
        ("seed", "write it as key=value"),
        ("seed.a=1", "no mapping|there is no"),
        ("parent.loop.batch=[", "not valid YAML"),
    ],
)
def test_settings_are_checked(setting: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_recipe("finetune", [setting])


def test_a_setting_changes_one_net_alone_and_a_file_is_read(tmp_path: Path) -> None:
    changed = load_recipe("cpu", ["parent.loop.clip=3", "data=[{root: x, kind: coco, masks: a.json}]"])
    assert (changed.parent.loop.clip, changed.spn.loop.clip) == (3.0, 1.0)
    assert load_recipe("finetune", ["spn.start="]).spn.start == ""
    assert changed.data[0].kind == "coco" and len(changed.data) == 1
    nets = {s: {"loop": {"steps": 5}} for s in ("parent", "decoder", "spn", "prompts", "matching")}
    values = {"data": [{"root": "d"}], **nets}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    assert load_recipe(str(path)).name == "mine"
    path.write_text("data: []")
    with pytest.raises(InputError, match="parent is missing"):
        load_recipe(str(path))
    with pytest.raises(InputError, match="unknown recipe 'tpu'; choose one of cpu, finetune, gpu"):
        load_recipe("tpu")
