"""Time the propagation operator, forward and backward, against the plain torch loop.

    python benchmarks/spn_operator.py [--threads 2] [--runs 15]

Prints milliseconds (median and fastest of the runs) and the effective bandwidth: the bytes of every
input and result, counted once, per second of the fastest run; beside it that of a plain copy.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from segspn.spn import propagate
from segspn.spn.reference import propagate_reference

SIZES = ((480, 854), (1080, 1920))
COUNTS = (1, 4, 32)
LOOP_LIMIT = 4 * 1080 * 1920  # values; the loop's intermediates take gigabytes beyond


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
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    return f"{name}, {platform.system()}, Python {platform.python_version()}"


def copy_bandwidth() -> float:
    """GB/s of copying 256 MB with torch's threads, bytes read and bytes written."""
    source = torch.rand(64 << 20)
    target = torch.empty_like(source)
    _, least = measure(lambda: target.copy_(source), 7)
    return 2 * source.nbytes / least / 1e6


def row(label: str, times: tuple[float, float], size: int) -> str:
    return f"{label:<34}{times[0]:>10.2f}{times[1]:>10.2f}{size / times[1] / 1e6:>9.1f}"


def case(count: int, height: int, width: int, runs: int) -> dict[str, float]:
    """Print the rows of one size; return the fastest times by name."""
    torch.manual_seed(0)
    x = torch.rand(1, count, height, width)
    gates = torch.randn(1, 4, 3, height, width)
    grad = torch.randn_like(x)
    leaves = x.clone().requires_grad_(), gates.clone().requires_grad_()
    runs = runs if x.numel() <= LOOP_LIMIT else max(3, runs // 3)
    label = f"N={count} {width}x{height}"
    forward_bytes, backward_bytes = 2 * x.nbytes + gates.nbytes, 3 * x.nbytes + 2 * gates.nbytes
    result = propagate(*leaves)

    def back() -> None:
        torch.autograd.grad(result, leaves, grad, retain_graph=True)

    found = {}
    times = measure(lambda: propagate(x, gates), runs)
    print(row(f"{label} forward", times, forward_bytes))
    found["forward"] = times[1]
    times = measure(back, runs)
    print(row(f"{label} backward", times, backward_bytes))
    found["backward"] = times[1]
    if x.numel() <= LOOP_LIMIT:
        times = measure(lambda: propagate_reference(x, gates), 3)
        print(row(f"{label} torch loop", times, forward_bytes))
        found["loop"] = times[1]
    if x.numel() <= 480 * 854:
        looped = propagate_reference(*leaves)

        def back_loop() -> None:
            torch.autograd.grad(looped, leaves, grad, retain_graph=True)

        print(row(f"{label} torch loop backward", measure(back_loop, 2), backward_bytes))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}; torch {torch.__version__}, {options.threads} threads")
    print(f"copy bandwidth {copy_bandwidth():.1f} GB/s before the runs")
    print(f"\n{'':<34}{'median ms':>10}{'least ms':>10}{'GB/s':>9}")
    for height, width in SIZES:
        found = {count: case(count, height, width, options.runs) for count in COUNTS}
        one = found[1]
        print(
            f"  loop / forward {one['loop'] / one['forward']:.0f}x, "
            f"N=32 / N=1 {found[32]['forward'] / one['forward']:.1f}x, backward / forward "
            + ", ".join(f"{f['backward'] / f['forward']:.1f}x (N={n})" for n, f in found.items())
        )
    print(f"\ncopy bandwidth {copy_bandwidth():.1f} GB/s after the runs")


if __name__ == "__main__":
    main()
