"""Weights of other origins -> safetensors that the presets load."""

from __future__ import annotations

from segspn.convert.caffe import read_caffemodel
from segspn.convert.nets import Converted, convert

__all__ = ["Converted", "convert", "read_caffemodel"]
