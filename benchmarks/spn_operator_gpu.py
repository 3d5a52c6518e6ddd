"""Time the propagation operator on a GPU, forward and backward, against the plain torch loop.

    python benchmarks/spn_operator_gpu.py [--runs 30] [--dtype float32] [--no-loop]

Prints milliseconds (median and fastest of the runs, by CUDA events) and two bandwidths, each with
its share of that of a plain copy on the same GPU: `once`, the bytes of every input and result
counted once; and `moved`, the bytes that the kernels pass through memory, scratch included. The last
column is the median time per line of the longest scan, the floor that a scan has however small the
lines.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from segspn.spn import propagate
from segspn.spn.reference import propagate_reference

SIZES = ((480, 854), (1080, 1920))
COUNTS = (1, 4, 32, 128)
LOOP_LIMIT = 4 * 1080 * 1920  # values; the loop takes seconds beyond


def measure(call: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median and least milliseconds on the device, after a warm-up; each run finds a cold cache."""
    cache = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    for _ in range(3):
        call()
    events = []
    for _ in range(runs):
        cache.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    times = [start.elapsed_time(end) for start, end in events]
    return statistics.median(times), min(times)


def copy_bandwidth() -> float:
    """GB/s of copying 1 GB, bytes read and bytes written."""
    source = torch.rand(256 << 20, device="cuda")
    target = torch.empty_like(source)
    median, _ = measure(lambda: target.copy_(source), 20)
    return 2 * source.nbytes / median / 1e6


def row(
    label: str, times: tuple[float, float], once: float, moved: float, copy: float, lines: int
) -> None:
    rates = [size / times[0] / 1e6 for size in (once, moved)]
    shares = "".join(f"{rate:>9.0f}{rate / copy:>6.0%}" if rate else " " * 15 for rate in rates)
    print(f"{label:<34}{times[0]:>10.3f}{times[1]:>10.3f}{shares}{1e3 * times[0] / lines:>9.2f}")


def case(count: int, height: int, width: int, options: argparse.Namespace, copy: float) -> None:
    """The rows of one size."""
    torch.manual_seed(0)
    kind = {"device": "cuda", "dtype": getattr(torch, options.dtype)}
    x = torch.rand(1, count, height, width, **kind)
    gates = torch.randn(1, 4, 3, height, width, **kind)
    grad = torch.randn_like(x)
    leaves = x.clone().requires_grad_(), gates.clone().requires_grad_()
    label, lines = f"N={count} {width}x{height}", max(height, width)
    result = propagate(*leaves)
    wide = 4 / x.element_size()  # the backward's scratch is float32
    forward_moved = 15 * x.nbytes + 2 * gates.nbytes
    backward_moved = (6 + 38 * wide) * x.nbytes + 6 * gates.nbytes
    forward_once, backward_once = 2 * x.nbytes + gates.nbytes, 3 * x.nbytes + 2 * gates.nbytes

    def back() -> None:
        torch.autograd.grad(result, leaves, grad, retain_graph=True)

    times = measure(lambda: propagate(x, gates), options.runs)
    row(f"{label} forward", times, forward_once, forward_moved, copy, lines)
    row(f"{label} backward", measure(back, options.runs), backward_once, backward_moved, copy, lines)
    if options.loop and x.numel() <= LOOP_LIMIT:
        times = measure(lambda: propagate_reference(x, gates), 3)
        row(f"{label} torch loop", times, forward_once, 0, copy, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--loop", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("needs a CUDA device; benchmarks/spn_operator.py times the operator on the CPU")
    import triton

    print(f"{torch.cuda.get_device_name()}; torch {torch.__version__}, triton {triton.__version__}")
    start = time.perf_counter()
    propagate(torch.rand(1, 1, 8, 8, device="cuda"), torch.rand(1, 4, 3, 8, 8, device="cuda"))
    torch.cuda.synchronize()
    print(f"first call {time.perf_counter() - start:.1f} s (compilation, unless cached)")
    copy = copy_bandwidth()
    print(f"copy bandwidth {copy:.0f} GB/s\n")
    head = f"{'once GB/s':>15}{'moved GB/s':>15}{'us/line':>9}"
    print(f"{options.dtype:<34}{'median ms':>10}{'least ms':>10}{head}")
    for height, width in SIZES:
        for count in COUNTS:
            case(count, height, width, options, copy)


if __name__ == "__main__":
    main()
