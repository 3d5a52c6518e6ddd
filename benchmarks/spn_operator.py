"""Time the propagation operator against the plain torch loop and the loop under torch.compile.

    python benchmarks/spn_operator.py [--threads 2] [--runs 15] [--no-compile] [--plot speed.png]

Prints milliseconds (median and fastest of the runs) and the effective bandwidth: the bytes of every
input and result, counted once, per second of the fastest run; beside it that of a plain copy. Then
whether the bars hold that the operator was built to, by the fastest runs.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from segspn.spn import propagate
from segspn.spn.reference import _effective, _lines, _unlines, propagate_reference

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that this file runs by its path too

from benchmarks.machine import processor  # noqa: E402

SIZES = ((480, 854), (1080, 1920))
COUNTS = (1, 4, 32)
LOOP_LIMIT = 4 * 1080 * 1920  # values; the loop's intermediates take gigabytes beyond
CHUNK = 32  # lines that torch.compile unrolls: all of them would compile for an hour

OPERATOR, COMPILED, LOOP = "forward", "torch.compile", "torch loop"


# --- the loop in chunks, compiled -----------------------------------------------------------------


def chunk(line: Tensor, x: Tensor, gates: Tensor) -> Tensor:
    """`CHUNK` lines after `line (B, N, L)`: x (B, N, CHUNK, L), effective gates (B, 1, 3, CHUNK, L)."""
    lines = []
    for t in range(CHUNK):
        now = x[..., t, :]
        a, b, c = gates[..., t, :].unbind(-2)
        wide = pad(line, (1, 1))
        line = now + a * (wide[..., :-2] - now) + b * (line - now) + c * (wide[..., 2:] - now)
        lines.append(line)
    return torch.stack(lines, -2)


def compiled_loop(step: Callable[..., Tensor], x: Tensor, gates: Tensor) -> Tensor:
    """As ``propagate(x, gates)``, `step` being the compiled chunk; the last one is filled up."""
    results = []
    for d in range(4):
        xs = _lines(x, d).contiguous()
        g = _effective(_lines(gates[:, None, d], d).contiguous(), True)
        count, line = xs.shape[-2], xs[..., 0, :]
        g[..., 0, :] = 0  # the first line: H = X
        spare = (0, 0, 0, -count % CHUNK)
        xs, g, parts = pad(xs, spare), pad(g, spare), []
        for first in range(0, count, CHUNK):
            part = slice(first, first + CHUNK)
            done = step(line, xs[..., part, :].contiguous(), g[..., part, :].contiguous())
            line = done[..., -1, :].contiguous()
            parts.append(done)
        results.append(_unlines(torch.cat(parts, -2)[..., :count, :], d))
    return torch.stack(results, 1).amax(1)


def compiler_missing() -> str | None:
    """Why torch.compile cannot be timed here, if so."""
    try:
        torch._dynamo.reset()
        torch.compile(lambda x: x.sin() + 1)(torch.rand(64))
    except Exception as error:  # whatever stops the tool chain
        return str(error).strip().splitlines()[0][:80]
    return None


# --- measuring ------------------------------------------------------------------------------------


def measure(call: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median and least milliseconds."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), min(times)


def machine() -> str:
    return f"{processor()}, {platform.system()}, Python {platform.python_version()}"


def copy_bandwidth() -> float:
    """GB/s of copying 256 MB with torch's threads, bytes read and bytes written."""
    source = torch.rand(64 << 20)
    target = torch.empty_like(source)
    _, least = measure(lambda: target.copy_(source), 7)
    return 2 * source.nbytes / least / 1e6


def row(label: str, times: tuple[float, float], size: int, note: str = "") -> None:
    speed = size / times[1] / 1e6
    print(f"{label:<36}{times[0]:>10.2f}{times[1]:>10.2f}{speed:>9.1f}  {note}", flush=True)


def case(count: int, height: int, width: int, runs: int, compiled: bool) -> dict[str, float]:
    """Print the rows of one size; return the fastest times by name."""
    torch.manual_seed(0)
    x = torch.rand(1, count, height, width)
    gates = torch.randn(1, 4, 3, height, width)
    grad = torch.randn_like(x)
    leaves = x.clone().requires_grad_(), gates.clone().requires_grad_()
    runs = runs if x.numel() <= LOOP_LIMIT else max(3, runs // 3)
    label = f"N={count} {width}x{height}"
    forward_bytes, backward_bytes = 2 * x.nbytes + gates.nbytes, 3 * x.nbytes + 2 * gates.nbytes
    found: dict[str, float] = {}

    def add(name: str, call: Callable[[], object], times: int, size: int, note: str = "") -> None:
        measured = measure(call, times)
        row(f"{label} {name}", measured, size, note)
        found[name] = measured[1]

    def gradients_of(result: Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(result, leaves, grad, retain_graph=True)

    add(OPERATOR, lambda: propagate(x, gates), runs, forward_bytes)
    add("backward", gradients_of(propagate(*leaves)), runs, backward_bytes)
    if compiled:
        torch._dynamo.reset()  # else the eighth shape is not compiled any more
        step = torch.compile(chunk, dynamic=False)
        start = time.perf_counter()
        result = compiled_loop(step, x, gates)
        note = f"+ {time.perf_counter() - start:.0f} s once to compile"
        torch.testing.assert_close(result, propagate(x, gates), rtol=0, atol=1e-4)
        add(COMPILED, lambda: compiled_loop(step, x, gates), max(3, runs // 3), forward_bytes, note)
    if x.numel() <= LOOP_LIMIT:
        add(LOOP, lambda: propagate_reference(x, gates), 3, forward_bytes)
    if x.numel() <= 480 * 854:
        add(f"{LOOP} backward", gradients_of(propagate_reference(*leaves)), 2, backward_bytes)
    return found


# --- what is printed and drawn --------------------------------------------------------------------


def bars(found: dict[int, dict[str, float]]) -> None:
    """The figures the operator was built to, for 854x480: do they hold in this run?"""
    one, many = found[1], found[32]
    back = max(f["backward"] / f["forward"] for f in found.values())
    print("\nbars, 854x480, by the fastest runs")
    for label, value, limit, unit, least in (
        ("forward N=1", one["forward"], 2.5, " ms", False),
        ("torch loop / forward, N=1", one[LOOP] / one["forward"], 40, "x", True),
        ("forward N=32 / N=1", many["forward"] / one["forward"], 20, "x", False),
        ("backward / forward, worst N", back, 8, "x", False),
    ):
        holds = value >= limit if least else value <= limit
        bound = f"{'>=' if least else '<='} {limit:g}{unit}"
        print(f"  {label:<28}{value:>8.1f}{unit:<4} {bound:<10} {'holds' if holds else 'MISSED'}")


def plot(found: dict[tuple[int, int], dict[int, dict[str, float]]], path: Path) -> None:
    """Fastest milliseconds of each way to compute the same thing, on a log scale."""
    from matplotlib.figure import Figure

    ways = [
        (OPERATOR, "segspn.propagate", "#1b7837"),
        (COMPILED, "torch loop, torch.compile", "#fdae61"),
        (LOOP, "torch loop", "#b2182b"),
    ]
    ways = [way for way in ways if any(way[0] in f for cases in found.values() for f in cases.values())]
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True)
    for axes, ((height, width), cases) in zip(panels, found.items(), strict=True):
        for k, (name, label, colour) in enumerate(ways):
            at = [
                i + 0.27 * (k - (len(ways) - 1) / 2) for i, f in enumerate(cases.values()) if name in f
            ]
            values = [f[name] for f in cases.values() if name in f]
            drawn = axes.bar(at, values, 0.25, color=colour, label=label)
            texts = [f"{v:.1f}" if v < 100 else f"{v:,.0f}" for v in values]
            axes.bar_label(drawn, texts, padding=2, fontsize=8)
        axes.set_yscale("log")
        axes.set_title(f"{width} x {height} pixels")
        axes.set_xticks(range(len(cases)), [f"{n} map{'s' if n > 1 else ''}" for n in cases])
        axes.set_xlim(-0.6, len(cases) - 0.4)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.12)
    panels[0].set_ylabel("milliseconds, log scale: lower is faster")
    panels[0].legend(frameon=False, loc="upper left")
    figure.suptitle("Spatial propagation in four directions on the CPU (no bar: not measured)")
    figure.savefig(path, dpi=150)
    print(f"\nfigure written to {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the times as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}; torch {torch.__version__}, {options.threads} threads")
    missing = None if options.no_compile else compiler_missing()
    if missing:
        print(f"torch.compile is left out, it does not work here (a C++ compiler?): {missing}")
    compiled = not options.no_compile and missing is None
    print(f"copy bandwidth {copy_bandwidth():.1f} GB/s before the runs")
    print(f"\n{'':<36}{'median ms':>10}{'least ms':>10}{'GB/s':>9}")
    found = {
        (height, width): {n: case(n, height, width, options.runs, compiled) for n in COUNTS}
        for height, width in SIZES
    }
    bars(found[480, 854])
    if options.plot:
        plot(found, options.plot)
    print(f"\ncopy bandwidth {copy_bandwidth():.1f} GB/s after the runs")


if __name__ == "__main__":
    main()
