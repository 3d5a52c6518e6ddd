"""Which mask belongs to which frame: by name where names tell, else in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from segspn.errors import InputError
from segspn.video import Source, natural_key, open_source


@dataclass(frozen=True)
class Match:
    """``names``: the mask's name of each frame, by selected index, where there is one; ``in_order``:
    the names did not tell, so that masks were taken as they follow each other."""

    names: dict[int, str]
    in_order: bool


class FrameNames:
    """The names by which masks may call the selected frames of ``source``.

    A frame answers to its file's name without suffix and to its output name (``%05d``); numbers
    match whatever their leading zeros.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._own = {} if source.stems is None else _by_name(source.stems)
        self._numbers = _by_name(source.names)

    @cached_property
    def _whole(self) -> Source:
        """The input with all its frames, selected or not."""
        return open_source(self._source.spec)

    def knows(self, name: str) -> bool:
        """Whether a selected frame has this name."""
        return _key(name) in self._own or _key(name) in self._numbers

    def strange(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that no frame of the whole input has."""
        everywhere = FrameNames(self._whole)
        return [name for name in names if not everywhere.knows(name)]

    def match(self, names: Iterable[str]) -> Match:
        """Find each frame's mask among ``names``, which are distinct; frames without one are left out.

        Names decide if any of them is a frame's. Otherwise, or if they merely count up from 0 or 1,
        masks are taken in order where there are as many as frames, selected or in all.
        """
        ordered = sorted(names, key=natural_key)
        found = _matched(self._own, ordered) or _matched(self._numbers, ordered)
        if found and not _counts_up(ordered):
            return Match(found, False)
        whole = self.in_order(ordered)
        if whole is None or whole == found:
            return Match(found, False)
        return Match(whole, True)

    def in_order(self, ordered: Sequence[str]) -> dict[int, str] | None:
        """One mask for each selected frame, or for each one of the input; None for other counts."""
        if len(ordered) == len(self._whole):
            return {i: ordered[number] for i, number in enumerate(self._source.numbers)}
        if len(ordered) == len(self._source):
            return dict(enumerate(ordered))
        return None

    def require(self, match: Match, needed: Iterable[int], told: str) -> None:
        """Raise `InputError` if one of the frames ``needed`` has no mask.

        ``told`` is a sentence about it that lacks the name.
        """
        for index in needed:
            if index not in match.names:
                counts = sorted({len(self._whole), len(self._source)}, reverse=True)
                raise InputError(
                    f"{told.format(name=self._source.names[index])}: every frame needs one, named "
                    f"as the frame is, or give {' or '.join(map(str, counts))} in order"
                )


def _counts_up(ordered: Sequence[str]) -> bool:
    numbers = [int(name) for name in ordered if name.isascii() and name.isdigit()]
    first = numbers[0] if numbers else 0
    return first in (0, 1) and numbers == list(range(first, first + len(ordered)))


def _key(name: str) -> str | int:
    return int(name) if name.isascii() and name.isdigit() else name


def _by_name(names: Sequence[str]) -> dict[str | int, int]:
    return {_key(name): index for index, name in enumerate(names)}


def _matched(index: dict[str | int, int], names: Iterable[str]) -> dict[int, str]:
    return {index[_key(name)]: name for name in names if _key(name) in index}
