"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segspn.errors import InputError


def unwritable(path: Path, error: OSError) -> InputError:
    """The one-line complaint for a file that could not be written; names folder and cause."""
    cause = error.strerror or str(error)
    return InputError(
        f"cannot write {path.name} in the folder {path.parent}: {cause}; "
        "free space there, mend its permissions or choose another folder"
    )


def temporary_name(path: Path) -> Path:
    """The name under which ``path`` is written before it is whole.

    It is always the same for a target, so that a run that was killed leaves nothing which a second
    run does not overwrite; two writers of one target are not supported.
    """
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the body succeeds.

    If the body or the rename fails the temporary file is removed and ``path`` is as before.

    Raises `InputError`, naming the folder, for every `OSError` (no space, no permission, no such
    folder); other exceptions of the body pass through.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        discard(temporary)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically. Raises `InputError` as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def discard(temporary: Path) -> None:
    """Remove a temporary file if it is there."""
    try:
        temporary.unlink(missing_ok=True)
    except (PermissionError, NotADirectoryError):
        # The folder that refused the file also refuses this; the first error tells it better.
        return
