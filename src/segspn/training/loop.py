"""One training loop for everything that segspn trains: EMA, cosine schedule, exact resume."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler, Subset

LossFn = Callable[[nn.Module, Any], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class LoopConfig:
    """``steps`` optimiser steps of ``batch`` samples; everything else follows from ``seed``."""

    steps: int
    batch: int = 8
    lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 100
    clip: float = 1.0  # gradient norm
    ema: float = 0.998
    seed: int = 0
    workers: int = 1
    checkpoint_minutes: float = 3.0
    log_every: int = 50


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    t = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(t, 1.0))))


def train(
    model: nn.Module,
    dataset: Dataset[Any],
    loss_fn: LossFn,
    config: LoopConfig,
    out: Path,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Train the parameters that require gradients; return the model with the averaged weights.

    ``dataset[i]`` must depend on ``i`` alone (draw its randomness from ``i``), which is what makes a
    resumed run equal to an undisturbed one. ``out/checkpoint.pt`` is written every few minutes and
    picked up again when it exists; ``out/log.jsonl`` gets one line per ``log_every`` steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model.to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in trained]
    optimiser = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
    step = 0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        for a, b in zip(average, saved["average"], strict=True):
            a.copy_(b)
        step = saved["step"]
        _drop_log_after(out / "log.jsonl", step)

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "average": average,
            "step": step,
        }
        temporary = checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, checkpoint)

    last_save = time.monotonic()
    sums: dict[str, float] = {}
    with _progress() as progress:
        task = progress.add_task(out.name, total=config.steps, completed=step, note="")
        for batch in _batches(dataset, config, step):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step)
            loss, figures = loss_fn(model, batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, config.clip)
            optimiser.step()
            step += 1
            decay = min(config.ema, step / (step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(average, [p.detach() for p in trained], 1 - decay)
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value
            if step % config.log_every == 0 or step == config.steps:
                n = (step - 1) % config.log_every + 1
                means = {k: round(v / n, 5) for k, v in sums.items()}
                with open(out / "log.jsonl", "a") as log:
                    log.write(json.dumps({"step": step, **means}) + "\n")
                progress.update(task, note=" ".join(f"{k} {v:.4f}" for k, v in means.items()))
                sums = {}
                # A checkpoint between log lines would lose the running sums.
                if time.monotonic() - last_save > 60 * config.checkpoint_minutes:
                    save()
                    last_save = time.monotonic()
            progress.update(task, completed=step)
    save()
    result = copy.deepcopy(model)
    averaged = [p for p in result.parameters() if p.requires_grad]
    with torch.no_grad():
        for p, a in zip(averaged, average, strict=True):
            p.copy_(a)
    return result.eval()


def _batches(dataset: Dataset[Any], config: LoopConfig, start: int) -> Iterator[Any]:
    rest = Subset(dataset, range(start * config.batch, config.steps * config.batch))
    loader: DataLoader[Any] = DataLoader(
        rest,
        batch_size=config.batch,
        sampler=SequentialSampler(rest),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )
    return iter(loader)


def _drop_log_after(path: Path, step: int) -> None:
    """Remove the lines of steps that a resumed run will do again."""
    if path.exists():
        lines = [ln for ln in path.read_text().splitlines() if json.loads(ln)["step"] <= step]
        path.write_text("".join(ln + "\n" for ln in lines))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
