"""Weights: shipped safetensors beside their model cards, and files of the user's; loaded with checks."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from segspn.errors import InputError

MANIFEST = "SHA256SUMS"
"""Beside the shipped files; after training anew: ``sha256sum *.safetensors > SHA256SUMS``."""

RANDOM = "random"
"""In place of a file: random weights, repeatable for the preset's seed."""


def shipped() -> list[Path]:
    """The weight files in the package, sorted by name."""
    folder = Path(str(resources.files(__name__)))
    return sorted(folder.glob("*.safetensors"))


def weight_path(name: str) -> Path:
    """Path of a shipped weight file by its stem; a name with a suffix is a path of the user's.

    Relative paths start from the folder ``SEGSPN_WEIGHTS`` of the environment, else the current one.
    """
    path = Path(name)
    if path.suffix:
        return Path(os.environ.get("SEGSPN_WEIGHTS", "")) / path
    return Path(str(resources.files(__name__))) / f"{name}.safetensors"


def load_weights(module: nn.Module, name: str) -> None:
    """Load a shipped file (by stem) or a user's ``.safetensors`` into a module, exactly.

    Raises InputError when the file is missing, damaged or made for another architecture; says the
    first name or shape that differs. A shipped file must also be the one that `MANIFEST` lists.
    """
    path = weight_path(name)
    if not path.is_file():
        raise InputError(f"{path}: weights not found; reinstall segspn or check the path")
    try:
        data = path.read_bytes()
        if not Path(name).suffix and hashlib.sha256(data).hexdigest() != manifest().get(path.name):
            raise InputError(
                f"{path}: damaged or replaced, its sha256 is not the one in {MANIFEST}; reinstall "
                "segspn, or give weights of your own by path"
            )
        state = load(data)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    assign_weights(module, state, path)


def manifest() -> dict[str, str]:
    """The sha256 of each shipped file, by name, as ``sha256sum *.safetensors`` prints them."""
    text = (resources.files(__name__) / MANIFEST).read_text(encoding="utf-8")
    pairs = (line.split() for line in text.splitlines())
    return {name.removeprefix("*"): digest for digest, name in pairs}


def read_state(name: str, what: str) -> tuple[Path, dict[str, Tensor]]:
    """Path and tensors of a user's state dict: ``.safetensors``, or ``.pth``/``.pt`` of torch.save.

    ``what``: what the file is to hold and where it comes from, for the InputError when it is missing,
    damaged or no such thing.
    """
    path = weight_path(name)
    if not path.is_file():
        raise InputError(
            f"{path}: weights not found; needed: {what}; put it there, set SEGSPN_WEIGHTS to its "
            f"folder, or write {RANDOM!r} in the preset for an untrained net"
        )
    try:
        if path.suffix == ".safetensors":
            return path, load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as e:
        told = str(e).strip().split("\n")[0][:120]
        raise InputError(f"{path}: not a readable weight file ({told}); needed: {what}") from e
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: holds no plain state dict of tensors; needed: {what}")
    return path, state


def assign_weights(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Copy ``state`` of the file ``path`` into a module; InputError unless it fits exactly."""
    check_state(module, state, path)
    own = module.state_dict()
    module.load_state_dict({name: state[name].to(value.dtype) for name, value in own.items()})


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Modules made inside start from the same random weights; torch's own generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def check_state(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """InputError unless names and shapes of ``state`` are exactly the module's."""
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    extra = sorted(state.keys() - own.keys())
    if missing or extra:
        word = f"lacks {missing[0]}" if missing else f"has an unknown {extra[0]}"
        raise InputError(f"{path}: {word}; it was made for another {type(module).__name__}")
    for name, value in own.items():
        if state[name].shape != value.shape:
            raise InputError(
                f"{path}: {name} is {tuple(state[name].shape)}, expected {tuple(value.shape)}; "
                f"it was made for another {type(module).__name__}"
            )


def save_weights(module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write a module as safetensors, floats in half precision (the files ship in the package)."""
    state = {
        k: (v.half() if v.dtype == torch.float32 else v).contiguous()
        for k, v in module.state_dict().items()
    }
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(state, temporary, metadata)
    temporary.chmod(0o644)  # safetensors creates files for the owner alone
    temporary.replace(path)
