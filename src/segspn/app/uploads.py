"""What a page may send: kinds of files, known by their first bytes, and their names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from segspn.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif")
"""Files that the page offers to choose."""

HEAD = 400
"""Bytes that `require_video` needs to see."""

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # ISO media and QuickTime
_MAGIC = (b"\x1aE\xdf\xa3", b"GIF87a", b"GIF89a", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
_TS_PACKET = 188
_LONGEST = 80


def safe_stem(name: str) -> str:
    """A name of letters, digits, ``._-`` from that of an uploaded file, to be used on disk."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return re.sub(r"[^\w.-]+", "_", stem).strip("._")[:_LONGEST] or "video"


def require_video(head: bytes, name: str) -> None:
    """Raise `InputError` unless the first bytes are those of a container of pictures.

    FFmpeg finds out by itself what a file is, and some kinds (playlists, concatenations) make it
    open other files of this machine: those must not get that far.
    """
    known = head.startswith(_MAGIC) or head[4:8] in _BOXES
    known = known or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
    known = known or (head[:1] == b"G" and head[_TS_PACKET : _TS_PACKET + 1] == b"G")
    if not known:
        raise InputError(
            f"{name[:_LONGEST]} is no video that can be opened here: choose an MP4, MOV, MKV, WebM, "
            "AVI, MPEG or GIF file"
        )


def require_zip(head: bytes, name: str) -> None:
    """Raise `InputError` unless the first bytes are those of a zip."""
    if not head.startswith(b"PK\x03\x04"):
        raise InputError(f"{name[:_LONGEST]} is no project: choose a file that was saved here")
