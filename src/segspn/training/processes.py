"""One process or several: ``accelerate launch`` starts them, and gradients are averaged over them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from segspn.errors import InputError


class Processes:
    """This process among ``count``, number ``index``; number 0 writes the files."""

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count

    @property
    def first(self) -> bool:
        return self.index == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, the same shapes everywhere, by their mean over all processes."""
        if self.count == 1 or not tensors:
            return
        from accelerate.utils import reduce

        flat = torch.cat([t.flatten() for t in tensors])
        mean = reduce(flat, "mean").split([t.numel() for t in tensors])
        for tensor, part in zip(tensors, mean, strict=True):
            tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            from accelerate.utils import wait_for_everyone

            wait_for_everyone()


def join(device: torch.device) -> tuple[Processes, torch.device]:
    """The processes that ``accelerate launch`` or ``torchrun`` started, and this one's device.

    Without them: one process, ``device`` as given. Raises InputError when accelerate is missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(), device
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise InputError("several processes need accelerate: pip install 'segspn[train]'") from error
    state = PartialState(cpu=device.type == "cpu")
    return Processes(state.process_index, state.num_processes), state.device
