"""Shipped weights: safetensors beside their model cards, loaded with checks."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segspn.errors import InputError


def shipped() -> list[Path]:
    """The weight files in the package, sorted by name."""
    folder = Path(str(resources.files(__name__)))
    return sorted(folder.glob("*.safetensors"))


def weight_path(name: str) -> Path:
    """Path of a shipped weight file by its stem; a name with a suffix is a path of the user's."""
    path = Path(name)
    if path.suffix:
        return path
    return Path(str(resources.files(__name__))) / f"{name}.safetensors"


def load_weights(module: nn.Module, name: str) -> None:
    """Load a shipped file (by stem) or a user's ``.safetensors`` into a module, exactly.

    Raises InputError when the file is missing, damaged or made for another architecture; says the
    first name or shape that differs.
    """
    path = weight_path(name)
    if not path.is_file():
        raise InputError(f"{path}: weights not found; reinstall segspn or check the path")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    check_state(module, state, path)
    module.load_state_dict({k: v.to(own.dtype) for (k, own), v in _paired(module, state)})


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


def _paired(
    module: nn.Module, state: dict[str, Tensor]
) -> list[tuple[tuple[str, Tensor], Tensor]]:
    return [((k, v), state[k]) for k, v in module.state_dict().items()]
