"""Watching a live source: a page on the loopback that shows it, where a box starts an object."""

from segspn.watch.loop import Watch
from segspn.watch.server import WatchServer

__all__ = ["Watch", "WatchServer"]
