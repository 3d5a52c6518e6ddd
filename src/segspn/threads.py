"""Python threads for kernels that release the GIL; as many work as torch has threads.

numba's own parallel loops spin at their barriers: fine on an idle machine, but beside torch's threads or
another process they were measured to be up to a hundred times slower.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)  # a forked child has none of the threads


def do_all(jobs: Iterable[Callable[[], None]], threads: int) -> None:
    """Do all jobs on up to ``threads`` threads, one of which is the caller's: a helper that the machine
    has no time for is not waited for."""
    global _pool
    queue = iter(list(jobs))

    def drain() -> None:
        for job in queue:
            job()

    if threads > 1 and _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="segspn")
    helpers = [_pool.submit(drain) for _ in range(threads - 1)] if _pool else []
    try:
        drain()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()
