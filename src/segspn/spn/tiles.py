"""Propagation of an image too large for its gates to be in memory at once: tile by tile."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from segspn.spn.operator import propagate


def propagate_tiles(
    x: Tensor,
    gates_of: Callable[[slice, slice], Tensor],
    *,
    tile: int = 1024,
    halo: int = 128,
    rounds: int = 1,
    merge: str = "max",
    normalise: bool = True,
) -> Tensor:
    """:func:`propagate` with the gates of one window of the map at a time.

    Gates take 12 values a pixel and the net that makes them far more, so they set the memory; here
    they exist for one window: a tile and `halo` pixels around it, as far as the map goes. The window
    is propagated on its own, and its halo cut off.

    What lies beyond the halo cannot be felt, which is an approximation. Where gates are not negative
    and sum to at most s < 1, no value of the result is further from that of ``propagate`` on the
    whole map than ``rounds * R * s ** (halo // rounds + 1)``, R being the range of ``x``: each step
    towards a tile weakens an influence by s. Where the windows are the whole map, because ``halo`` is
    as large, there is no difference at all.

    Args:
        x: ``(B, N, H, W)``, as in ``propagate``.
        gates_of: called once per tile with the rows and the columns of a window, slices with start
            and stop inside the map; returns the gates there, ``(B, 4, 3, h, w)`` or
            ``(B, N, 4, 3, h, w)``.
        tile: side of a tile in pixels, at least 1.
        halo: pixels around it, at least 0; the time grows with ``(1 + 2 * halo / tile) ** 2``.
        rounds, merge, normalise: as in ``propagate``.

    Returns:
        As ``propagate``. Differentiable, but then autograd keeps the gates of all tiles.

    Raises:
        ValueError: on sizes out of range, and as ``propagate`` does.
    """
    if tile < 1 or halo < 0:
        raise ValueError(f"tile must be at least 1 and halo at least 0, not {tile} and {halo}")
    if x.dim() != 4 or x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(f"x must be (B, N, H, W) with H, W >= 1, not {tuple(x.shape)}")
    height, width = x.shape[2:]
    leading = (x.shape[0], 4, x.shape[1]) if merge == "all" else x.shape[:2]
    result = x.new_empty((*leading, height, width))
    for top in range(0, height, tile):
        rows, inner_rows, tile_rows = _window(top, tile, halo, height)
        for left in range(0, width, tile):
            columns, inner_columns, tile_columns = _window(left, tile, halo, width)
            part = propagate(
                x[..., rows, columns],
                gates_of(rows, columns),
                rounds=rounds,
                merge=merge,
                normalise=normalise,
            )
            result[..., tile_rows, tile_columns] = part[..., inner_rows, inner_columns]
    return result


def _window(start: int, tile: int, halo: int, size: int) -> tuple[slice, slice, slice]:
    """One axis: the window in the map, the tile within the window, the tile in the map."""
    stop = min(start + tile, size)
    first = max(0, start - halo)
    return slice(first, min(stop + halo, size)), slice(start - first, stop - first), slice(start, stop)
