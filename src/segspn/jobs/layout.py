"""Where a run's files lie, and whether they may be written there."""

from __future__ import annotations

import glob
import itertools
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segspn.errors import InputError

# Files that segspn itself writes into its folders, temporary names included.
_OURS = re.compile(r"\.?\d+(_\d+)?\.png(\.tmp)?")
_TEMPORARY = re.compile(r"\..+\.tmp")

STAGE_FOLDERS = ("foreground", "hard", "coarse", "refined")
"""Folders of the stages' own outputs: foreground masks, hard masks and score maps before the
spatial propagation network, score maps after it."""


@dataclass(frozen=True)
class Layout:
    """The files of one run: ``out`` is the folder the user named, ``name`` that of the video.

    ``out/name/%05d.png`` is DAVIS's own layout, so ``out`` can be scored as a folder of results.
    """

    out: Path
    name: str

    @property
    def labels(self) -> Path:
        return self.out / self.name

    @property
    def scores(self) -> Path:
        return self.out / f"{self.name}_scores"

    @property
    def cutouts(self) -> Path:
        return self.out / f"{self.name}_cutouts"

    @property
    def panel(self) -> Path:
        return self.out / f"{self.name}_panel"

    @property
    def overlay(self) -> Path:
        return self.out / f"{self.name}.mp4"

    @property
    def sheet(self) -> Path:
        return self.out / f"{self.name}_sheet.png"

    @property
    def rle(self) -> Path:
        return self.out / f"{self.name}_rle.json"

    @property
    def report(self) -> Path:
        return self.out / "run.json"

    @property
    def work(self) -> Path:
        """What a resumed run needs; removed when the run is finished."""
        return self.out / ".segspn"

    def stage(self, kind: str) -> Path:
        """Folder of one of ``STAGE_FOLDERS``."""
        return self.out / f"{self.name}_stages" / kind

    def _files(self) -> tuple[Path, ...]:
        return (self.report, self.overlay, self.sheet, self.rle)

    def refuse_to_touch(self, *inputs: str | Path) -> None:
        """Raise `InputError` if an input is one of the run's outputs or lies in one of them."""
        folders = [self.labels, self.scores, self.cutouts, self.panel, self.work]
        folders.append(self.stage("").parent)
        outputs = {path.resolve() for path in (*folders, *self._files())}
        for given in inputs:
            path = Path(given)
            path = (path if path.exists() else plain_folder(path)).resolve()
            if outputs.intersection((path, *path.parents)):
                raise InputError(
                    f"{given} would be overwritten by the output in {self.out}: choose another "
                    "folder with --out"
                )

    def clear(self) -> None:
        """Remove what an earlier run left under this run's names, and nothing else."""
        stages = [self.stage(kind) for kind in STAGE_FOLDERS]
        for folder in (self.labels, self.scores, self.cutouts, self.panel, *stages):
            remove_numbered(folder)
        for file in self._files():
            file.unlink(missing_ok=True)
        remove_if_empty(self.stage("").parent)
        if self.work.is_dir():
            shutil.rmtree(self.work)


def video_name(spec: str | Path) -> str:
    """The name of a video's outputs: a file's stem, a folder's name, the folder of a glob."""
    path = Path(os.path.abspath(spec))
    if not path.exists():
        name = plain_folder(path).name
    else:
        name = path.name if path.is_dir() else path.stem
    # A leading dot would hide the results, and a root's name is empty.
    return name.strip(".") or "video"


def plain_folder(pattern: Path) -> Path:
    """The deepest folder above a glob pattern that has no magic in its own path."""
    parts = pattern.parts[:-1]
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), parts)
    return Path(*plain)


def default_out(spec: str | Path, ending: str = "segspn") -> Path:
    """Where results go if the user names no folder; ``ending`` keeps jobs on one video apart."""
    return Path(f"{video_name(spec)}-{ending}")


def require_writable(out: Path, overwrite: bool, resume: bool = False, offer: str = "") -> None:
    """Raise `InputError` if ``out`` is a file, or holds anything and neither flag is given.

    ``offer`` is the mend beside ``--overwrite``, such as ``" or --resume to go on"``.
    """
    if overwrite and resume:
        raise InputError(f"{out}: --overwrite and --resume exclude each other, give one of them")
    if not out.is_dir():
        if out.exists() or out.is_symlink():
            raise InputError(f"{out} is not a folder: choose another one with --out")
        return
    if overwrite or resume:
        return
    if any(not _TEMPORARY.fullmatch(entry.name) for entry in out.iterdir()):
        raise InputError(
            f"the output folder {out} exists and is not empty: give --overwrite to replace what "
            f"is there{offer}"
        )


def make_folders(folders: Iterable[Path]) -> None:
    """Make folders with their parents. Raises `InputError` where that is impossible."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder {folder}: {error.strerror}; mend that or choose another "
                "one with --out"
            ) from error


def remove_numbered(folder: Path) -> None:
    """Remove the numbered PNGs in ``folder``, and the folder itself if that leaves it empty."""
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if _OURS.fullmatch(file.name):
            file.unlink()
    remove_if_empty(folder)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that is there and holds nothing."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
