"""Masks of every frame that any tool made, read as one stream; run-length encoded masks, written."""

from segspn.tracks.base import FrameMasks, Tracks
from segspn.tracks.coco import coco_writer
from segspn.tracks.open import open_tracks
from segspn.tracks.rle import decode_rle, encode_rle

__all__ = [
    "FrameMasks",
    "Tracks",
    "coco_writer",
    "decode_rle",
    "encode_rle",
    "open_tracks",
]
