"""The state of an unfinished run on disk: what a killed run is resumed from."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from segspn.errors import InputError
from segspn.video import Source, write_bytes

if TYPE_CHECKING:
    from segspn.jobs.run import Steps

_STATE = "state.json"


@dataclass
class Checkpoint:
    """How far a run has come.

    Attributes:
        arguments: everything its results depend on, plain JSON values by name.
        done: frames that are written.
        session: name of the saved session after the last of them; None where a session begins.
        timings: seconds of each of those frames, by stage.
        cuts: which of the video's frames, from 0, are the first ones of another scene.
        seconds: wall time so far.
    """

    arguments: dict[str, Any]
    done: int = 0
    session: str | None = None
    timings: dict[str, list[float]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    seconds: float = 0.0


def save_checkpoint(folder: Path, checkpoint: Checkpoint, session: Steps | None) -> None:
    """Write ``checkpoint``, and ``session`` beside it, so that the pair is always whole.

    The session goes to a name of its own first; the state file that names it is then replaced in
    one step; only then is the older session removed. Raises `InputError` where the disk refuses.
    """
    checkpoint.session = None
    if session is not None:
        checkpoint.session = f"session-{checkpoint.done}"
        # Left by a run that was killed between the session and its state file.
        _remove(folder / checkpoint.session)
        try:
            session.save(folder / checkpoint.session)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"cannot save the state of the run in the folder {folder}: {error}; "
                "free space there, then continue with --resume"
            ) from error
    write_bytes(folder / _STATE, json.dumps(asdict(checkpoint)).encode())
    for old in folder.glob("session-*"):
        if old.name != checkpoint.session:
            _remove(old)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in ``folder``, None if there is none. Raises `InputError` if it is damaged."""
    path = folder / _STATE
    if not path.is_file():
        return None
    try:
        return Checkpoint(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: start anew with --overwrite") from error


def require_same(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise `InputError`, naming the argument, if a run is resumed with another one."""
    old, new = dict(_flat(before)), dict(_flat(now))
    for name in {**new, **old}:
        if old.get(name) != new.get(name):
            told = (
                f"another {name}"
                if name.endswith("content")
                else f"{name} {_shown(old.get(name))}, now it is {_shown(new.get(name))}"
            )
            raise InputError(
                f"{out} was begun with {told}: resume with the same or start anew with --overwrite"
            )


def input_identity(source: Source) -> str:
    """What tells a changed input: a file's size and time, or the names of the frames.

    The pixels of image files do not count, so that a damaged frame can be replaced before a run is
    resumed.
    """
    path = Path(source.spec)
    if path.is_file():
        status = path.stat()
        return f"{status.st_size} bytes, modified {status.st_mtime_ns}"
    names = "\n".join(source.names)
    height, width = source.size
    return f"{len(source)} frames {width}x{height} {hashlib.sha256(names.encode()).hexdigest()}"


def mask_identity(labels: np.ndarray) -> str:
    """A digest of a label map."""
    return hashlib.sha256(repr(labels.shape).encode() + labels.tobytes()).hexdigest()


def _flat(arguments: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in arguments.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "unset" if value is None else str(value)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
