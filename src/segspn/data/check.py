"""Training data looked at before the first step: bad samples are named and left out, by one rule."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from segspn.data.stills import Still, Stills
from segspn.errors import InputError

SHOWN = 20


def complaint(still: Still) -> str:
    """What is wrong with a still, in one line; empty if it can be used.

    The rule: picture and mask are readable, agree in size, and at least one object is there.
    """
    try:
        labels = still.load()[1]
    except InputError as error:
        return str(error)
    where = still.mask if isinstance(still.mask, Path) else still.mask.name
    return "" if labels.any() else f"{where}: no object in the mask"


def check_data(stills: Stills, bad_share: float, shown: bool = True) -> list[str]:
    """Open every still; drop the bad ones and return a line for each, ``shown`` on the error stream.

    Raises InputError when they are more than ``bad_share`` of all: then something else is wrong.
    """
    items = stills.all()
    console = Console(stderr=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found: Iterable[str] = pool.map(complaint, items)
        found = track(
            found,
            "checking data",
            len(items),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        told = {still: line for still, line in zip(items, found, strict=True) if line}
    lines = list(told.values())
    for line in lines[:SHOWN] if shown else ():
        print(f"skipped: {line}", file=sys.stderr)
    if len(lines) > SHOWN and shown:
        print(f"skipped: {len(lines) - SHOWN} more", file=sys.stderr)
    if len(lines) > bad_share * len(items):
        raise InputError(
            f"{len(lines)} of {len(items)} samples are bad, the first: {lines[0]} "
            f"(mend them, or allow more with bad_share, now {bad_share:g})"
        )
    if told:
        stills.without(set(told))
    return lines
