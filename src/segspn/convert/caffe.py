"""The layers of a ``.caffemodel``, read without Caffe: just enough of protobuf's wire format.

Message and field numbers are those of BVLC Caffe's ``caffe.proto``: ``NetParameter`` with ``layer``
(100) or the older ``layers`` (2), each with a name and ``BlobProto`` arrays.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segspn.errors import InputError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# Fields of name and blobs in the two kinds of layer message.
LAYER = {100: (1, 7), 2: (4, 6)}
# Of BlobProto: packed data, float and double; shape; the older four sizes.
FLOATS, DOUBLES, SHAPE, SIZES = 5, 8, 7, (1, 2, 3, 4)


class _Damaged(ValueError):
    pass


def read_caffemodel(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Layer name -> its blobs, float arrays in Caffe's shapes; layers without blobs are left out.

    The arrays are views of the mapped file: only what is looked at is read. Raises InputError for a
    file that is missing or no such thing.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise InputError(f"{path}: cannot be read ({error}); check the path") from error
    found: dict[str, list[np.ndarray]] = {}
    try:
        for field, value in _fields(data):
            if field in LAYER and isinstance(value, memoryview):
                name, blobs = _layer(value, *LAYER[field])
                if blobs:
                    found[name] = blobs
    except (_Damaged, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a .caffemodel, or damaged ({error})") from error
    if not found:
        raise InputError(f"{path}: no layer with weights in it; is it a .caffemodel?")
    return found


def _layer(message: memoryview, name_field: int, blob_field: int) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for field, value in _fields(message):
        if field == name_field and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif field == blob_field and isinstance(value, memoryview):
            blobs.append(_blob(value))
    return name, blobs


def _blob(message: memoryview) -> np.ndarray:
    shape: list[int] = []
    old: dict[int, int] = {}
    parts: list[np.ndarray] = []
    for field, value in _fields(message):
        if field in (FLOATS, DOUBLES) and isinstance(value, memoryview):
            kind = np.dtype("<f4" if field == FLOATS else "<f8")
            if len(value) % kind.itemsize:
                raise _Damaged("an array is cut off")
            parts.append(np.frombuffer(value, kind))
        elif field == SHAPE and isinstance(value, memoryview):
            for inner, dims in _fields(value):
                if inner == 1:  # packed, or one by one
                    shape += _varints(dims) if isinstance(dims, memoryview) else [dims]
        elif field in SIZES and isinstance(value, int):
            old[field] = value
    values = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])
    shape = shape or [old.get(field, 1) for field in SIZES]
    if int(np.prod(shape)) != values.size:
        raise _Damaged(f"an array of {values.size} numbers is said to be {shape}")
    return values.reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers and values: integers, or bytes of strings, messages, arrays and fixed numbers."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == VARINT:
            number, at = _varint(message, at)
            yield field, number
            continue
        if wire == BYTES:
            size, at = _varint(message, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise _Damaged(f"unknown wire type {wire}")
        if field == 0 or at + size > len(message):
            raise _Damaged("a field ends behind the end")
        yield field, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise _Damaged("a number ends behind the end")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _varints(message: memoryview) -> list[int]:
    at, values = 0, []
    while at < len(message):
        value, at = _varint(message, at)
        values.append(value)
    return values
