"""Jobs on several threads at once: torch's own, where it uses OpenMP on Linux.

These threads wait for torch's next operation by spinning, for milliseconds. A thread of Python's beside
them would have to share its core with one that does nothing, and mostly begins when the work is done:
matching took as long on two cores as on one. So they do the jobs themselves. Elsewhere Python's threads
do. numba's own parallel loops spin at barriers of their own: beside torch's threads or another process
they were measured to be up to a hundred times slower.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

Job = Callable[[], None]

# Threads of torch's up to which they do jobs. All must come, be there something to do or not: OpenMP
# ends those beyond the number it is asked for, and torch would start them again. Each takes a moment of
# the GIL, and where there are many cores some are free for threads of Python's.
_MOST = 16

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_pool: ThreadPoolExecutor | None = None
_forked = False


def _after_fork() -> None:
    global _pool, _forked
    _pool, _forked = None, True


os.register_at_fork(after_in_child=_after_fork)  # a forked child has none of the threads


def do_all(jobs: Iterable[Job], threads: int) -> None:
    """Do all jobs on up to ``threads`` threads, one of which is the caller's.

    What they call should release the GIL. If one fails, that is raised when the others are done.
    """
    jobs = list(jobs)
    queue = iter(jobs)
    failed: list[BaseException] = []
    ended: list[int] = []

    def drain(_: object = None) -> None:
        try:
            for job in queue:
                job()
            ended.append(threading.get_ident())
        except BaseException as error:
            failed.append(error)

    if min(threads, len(jobs)) < 2:
        drain()
    elif (torchs := _torchs_threads(threads)) is not None:
        torchs(_BODY(drain), None, threads, 0)
        if not failed and threading.get_ident() not in ended:
            # A signal's exception came between two of its lines, and ctypes lets none of those pass.
            raise KeyboardInterrupt
    else:
        _with_pool(drain, min(threads, len(jobs)))
    if failed:
        raise failed.pop()


def in_bands(rows: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call ``rows(first, last)`` for all of ``count`` rows, in bands on up to ``threads`` threads."""
    # More bands than threads: one thread may be held up.
    edges = [count * k // (2 * threads) for k in range(2 * threads + 1)]
    bands = zip(edges[:-1], edges[1:], strict=True)
    do_all([partial(rows, *band) for band in bands if band[0] < band[1]], threads)


def side_by_side(jobs: Iterable[Job], device: str) -> None:
    """Do jobs made of torch's operations on tensors of a ``device``: on the CPU at the same time, where
    they can have torch's threads, each on one of them. The longest should come first, or a thread waits
    for it.

    Small maps are done little sooner by two threads than by one. Gradients are recorded as they are for
    the caller; an autocast is a job's own to begin.
    """
    import torch

    threads = torch.get_num_threads()
    if device != "cpu" or _torchs_threads(threads) is None:
        threads = 1  # threads of Python's would each start torch's
    frozen, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def like_the_caller(job: Job) -> None:
        with torch.inference_mode(frozen), torch.set_grad_enabled(grad):
            job()

    do_all([partial(like_the_caller, job) for job in jobs], threads)


def _with_pool(drain: Job, threads: int) -> None:
    """A helper that the machine has no time for is not waited for."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="segspn")
    helpers = [_pool.submit(drain) for _ in range(threads - 1)]
    drain()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


def _torchs_threads(count: int) -> Callable[..., None] | None:
    """`_openmp`; None where ``count`` threads of it cannot be had."""
    return None if _forked or count > _MOST else _openmp()


@cache
def _openmp() -> Callable[..., None] | None:
    """What GNU's compiler makes of a parallel region, ``GOMP_parallel(body, data, threads, flags)``, of
    torch's OpenMP; None: it has none."""
    import torch

    if sys.platform != "linux" or not torch.backends.openmp.is_available():
        return None
    # What is loaded for all to use, as the linker found it for torch: Intel's OpenMP, where a user puts
    # that in place of GNU's, has such regions too.
    region = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if region is None:
        return None
    region.argtypes = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    region.restype = None
    return region
