"""One training loop for everything that segspn trains: EMA, cosine schedule, exact resume."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segspn.errors import InputError
from segspn.jobs.interrupt import CtrlC, Interrupted
from segspn.training.board import Board, Pictures
from segspn.training.processes import Processes

LossFn = Callable[[nn.Module, Any], tuple[Tensor, dict[str, float]]]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What may differ between a run and the run that resumes it: none of it changes the result.
FREE = ("workers", "checkpoint_minutes", "log_every", "pictures_every", "tensorboard")


@dataclass(frozen=True)
class LoopConfig:
    """``steps`` optimiser steps of ``batch`` samples; everything else follows from the seed.

    ``parts``: a step's samples in so many equal parts, each with its own loss, whose gradients are
    averaged: less memory, and with several processes each takes its share of the parts. The result
    depends on the number of parts, not of processes; 1 means one part for each process.
    ``precision``: ``float32``, or ``bfloat16`` for what autocast runs in it.
    """

    steps: int
    batch: int = 8
    parts: int = 1
    lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 100  # steps
    clip: float = 1.0  # gradient norm
    ema: float = 0.998
    precision: str = "float32"
    workers: int = 1  # processes that make samples; 0: the training process itself
    checkpoint_minutes: float = 3.0
    log_every: int = 50  # steps
    pictures_every: int = 500  # steps
    tensorboard: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be {' or '.join(PRECISIONS)}, not {self.precision!r}")
        for name in ("steps", "batch", "parts", "log_every", "pictures_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"workers must be 0 or more, not {self.workers}")
        if self.batch % self.parts:
            raise ValueError(f"a batch of {self.batch} cannot be cut into {self.parts} parts")

    def identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the run that it goes on with."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in FREE}


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
    seed: int = 0,
    identity: Mapping[str, Any] | None = None,
    pictures: Pictures | None = None,
    processes: Processes | None = None,
) -> nn.Module:
    """Train the parameters that require gradients; return the model with the averaged weights.

    ``dataset[i]`` must depend on ``i`` alone (draw its randomness from ``i``), and torch's generator is
    seeded anew in each step: so a resumed run equals an undisturbed one, bit for bit on a CPU.
    ``out/checkpoint.pt`` is written every few minutes, and on Ctrl-C, and picked up again when it
    exists; ``out/log.jsonl`` gets one line per ``log_every`` steps. ``identity``: plain values on which
    the result depends beside ``config``; a checkpoint made with others is refused with an InputError.
    ``pictures`` draws examples for TensorBoard. Raises `Interrupted` on Ctrl-C.
    """
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device(device)
    run = _Run(model.to(device), config, seed, {**(identity or {}), **config.identity(), "seed": seed})
    processes = processes or Processes()
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint, device)
    if processes.first:
        _drop_log_after(out / "log.jsonl", run.step)
    parts, _ = _own_parts(config, processes)
    example = [dataset[i] for i in range(min(4, config.batch))] if pictures else []
    board = Board(out, run.step, config.tensorboard and processes.first, pictures, example)
    last_save = time.monotonic()
    with CtrlC() as ctrl_c, _Report(out.name, config, run.step, processes.first) as report:
        batches = sample_batches(dataset, config, run.step, processes)
        try:
            while run.step < config.steps:
                own = [next(batches) for _ in parts]
                with ctrl_c.held():
                    run.advance(own, parts, loss_fn, device, processes)
                    if not processes.first:
                        continue
                    if run.step % config.log_every == 0 or run.step == config.steps:
                        means = run.means()
                        with open(out / "log.jsonl", "a", encoding="utf-8") as log:
                            log.write(json.dumps({"step": run.step, **means}) + "\n")
                        board.curves(run.step, {**means, "lr": learning_rate(config, run.step)})
                        report.told(run.step, means)
                    if run.step % config.pictures_every == 0 or run.step == config.steps:
                        board.pictures(run.step, model)
                    if time.monotonic() - last_save > 60 * config.checkpoint_minutes:
                        run.save(checkpoint)
                        last_save = time.monotonic()
                report.at(run.step)
        except KeyboardInterrupt as stop:
            if processes.first and not ctrl_c.torn:
                run.save(checkpoint)
            raise Interrupted(
                f"stopped after step {run.step} of {config.steps}; the same command goes on"
            ) from stop
        if processes.first:
            run.save(checkpoint)
    board.close()
    processes.wait()
    return run.averaged()


class _Run:
    """All that changes from step to step, and therefore all that a checkpoint holds."""

    def __init__(
        self, model: nn.Module, config: LoopConfig, seed: int, identity: dict[str, Any]
    ) -> None:
        self.model, self.config, self.seed, self.identity = model, config, seed, identity
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.trained]
        self.optimiser = torch.optim.AdamW(
            self.trained, lr=config.lr, weight_decay=config.weight_decay
        )
        self.step = 0
        self.sums: dict[str, float] = {}
        self.summed = 0  # steps in `sums`

    def advance(
        self,
        batches: list[Any],
        parts: range,
        loss_fn: LossFn,
        device: torch.device,
        processes: Processes,
    ) -> None:
        """One step on this process's parts of the batch."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        told: dict[str, float] = {}
        # No cache: it would keep weights cast under no_grad for a later use with gradients.
        lower = torch.autocast(
            device.type,
            PRECISIONS[config.precision],
            enabled=config.precision != "float32",
            cache_enabled=False,
        )
        for part, batch in zip(parts, batches, strict=True):
            torch.manual_seed((self.seed * 1_000_003 + self.step) * 1_009 + part)
            with lower:
                loss, figures = loss_fn(self.model, batch)
            if not math.isfinite(loss.item()):
                raise InputError(
                    f"the loss is {loss.item()} at step {self.step}: lower the learning rate, or set "
                    "precision to float32; the last checkpoint is from before"
                )
            (loss / len(parts)).backward()
            for name, value in {"loss": loss.item(), **figures}.items():
                told[name] = told.get(name, 0.0) + value / len(parts)
        for p in self.trained:
            if p.grad is None:  # not met by this part; others may have met it
                p.grad = torch.zeros_like(p)
        if processes.count > 1:
            values = torch.tensor(list(told.values()), device=device)
            processes.average([values, *(p.grad for p in self.trained if p.grad is not None)])
            told = dict(zip(told, values.tolist(), strict=True))
        nn.utils.clip_grad_norm_(self.trained, config.clip)
        self.optimiser.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.trained], 1 - decay)
        for name, value in told.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.summed += 1

    def means(self) -> dict[str, float]:
        """Means of the figures since the last call."""
        means = {name: value / self.summed for name, value in self.sums.items()}
        self.sums, self.summed = {}, 0
        return means

    def averaged(self) -> nn.Module:
        """A copy of the model with the averaged weights."""
        result = copy.deepcopy(self.model)
        averaged = [p for p in result.parameters() if p.requires_grad]
        with torch.no_grad():
            for p, a in zip(averaged, self.average, strict=True):
                p.copy_(a)
        return result.eval()

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "sums": self.sums,
            "summed": self.summed,
            "identity": self.identity,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load(self, path: Path, device: torch.device) -> None:
        try:
            saved = torch.load(path, map_location=device, weights_only=True)
            made: dict[str, Any] = saved["identity"]
        except Exception as error:  # whatever torch.load says of a damaged or foreign file
            raise InputError(
                f"{path}: not a checkpoint of this version ({type(error).__name__}); "
                "delete it to train anew, or choose another --out"
            ) from error
        for key in sorted(self.identity.keys() | made.keys()):
            then, now = made.get(key), self.identity.get(key)
            if then != now:
                raise InputError(
                    f"{path}: made with {key} {then!r}, now {now!r}; "
                    "use the same, choose another --out, or delete it to train anew"
                )
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        for a, b in zip(self.average, saved["average"], strict=True):
            a.copy_(b)
        self.step, self.sums, self.summed = saved["step"], saved["sums"], saved["summed"]


def _own_parts(config: LoopConfig, processes: Processes) -> tuple[range, int]:
    """The parts of a step's batch that this process does, and the samples of each."""
    parts = processes.count if config.parts == 1 else config.parts
    if parts % processes.count or config.batch % parts:
        raise InputError(
            f"a batch of {config.batch} in {config.parts} parts cannot be shared by "
            f"{processes.count} processes; set batch and parts to multiples of {processes.count}"
        )
    share = parts // processes.count
    return range(processes.index * share, (processes.index + 1) * share), config.batch // parts


def sample_batches(
    dataset: Dataset[Any], config: LoopConfig, start: int, processes: Processes
) -> Iterator[Any]:
    """From step ``start`` on, the samples of this process's parts, part by part."""
    parts, size = _own_parts(config, processes)
    firsts = (
        step * config.batch + part * size for step in range(start, config.steps) for part in parts
    )
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=[list(range(first, first + size)) for first in firsts],
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_start_worker,
    )
    try:
        yield from loader
    except InputError as error:  # of a worker it comes with the worker's traceback before it
        told = str(error).strip().splitlines()[-1]
        raise InputError(told.rpartition("InputError: ")[2]) from error


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # a worker is one of several; threads within them only get in the way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training process's to handle


def _drop_log_after(path: Path, step: int) -> None:
    """Remove the lines of steps that a resumed run will do again, and a line that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            done = json.loads(line)["step"] <= step
        except ValueError:
            continue
        if done:
            kept.append(line + "\n")
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


class _Report:
    """A progress bar with the time left; where the error stream is no terminal, lines."""

    def __init__(self, title: str, config: LoopConfig, done: int, shown: bool) -> None:
        console = Console(stderr=True)
        self.lines = shown and not console.is_terminal
        self.title, self.config, self.done, self.start = title, config, done, time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self.task = self.bar.add_task(title, total=config.steps, completed=done, note="")

    def __enter__(self) -> _Report:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def at(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def told(self, step: int, means: Mapping[str, float]) -> None:
        note = " ".join(f"{k} {v:.4f}" for k, v in means.items())
        self.bar.update(self.task, note=note)
        if self.lines:
            pace = (time.monotonic() - self.start) / max(1, step - self.done)
            left = pace * (self.config.steps - step) / 60
            speed = self.config.batch / pace
            print(
                f"{self.title} {step}/{self.config.steps} {note} "
                f"({speed:.1f} samples/s, {left:.0f} min left)",
                file=sys.stderr,
                flush=True,
            )
