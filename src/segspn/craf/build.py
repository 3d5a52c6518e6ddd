"""From a parameter set, or its name, to a filter."""

from __future__ import annotations

from collections.abc import Sequence

from segspn.craf.base import Craf
from segspn.craf.default import DefaultCraf
from segspn.craf.paper import PaperCraf
from segspn.craf.params import PARAMETER_SETS, CrafParams, PaperParams, ReleaseParams
from segspn.craf.release import ReleaseCraf
from segspn.errors import InputError


def build_craf(params: CrafParams | str, ids: Sequence[int]) -> Craf:
    """Make a filter for the objects ``ids``.

    Args:
        params: a parameter set, or the name of a published one: default, release or paper.
        ids: positive, distinct object ids.

    Raises:
        InputError: an unknown name, or ids that are empty, repeated or below 1.
    """
    if isinstance(params, str):
        if params not in PARAMETER_SETS:
            names = ", ".join(PARAMETER_SETS)
            raise InputError(f"unknown CRAF parameter set {params!r}: choose one of {names}")
        params = PARAMETER_SETS[params]
    if isinstance(params, ReleaseParams):
        return ReleaseCraf(params, ids)
    if isinstance(params, PaperParams):
        return PaperCraf(params, ids)
    return DefaultCraf(params, ids)
