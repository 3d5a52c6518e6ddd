"""The command line with the fake segmenter in the pipeline's place; run as a script."""

from __future__ import annotations

import sys
from types import ModuleType

from fake_segmenter import FakeSegmenter

from segspn.cli import main

pipeline = ModuleType("segspn.pipeline")
pipeline.Segmenter = FakeSegmenter  # type: ignore[attr-defined]
sys.modules["segspn.pipeline"] = pipeline

if __name__ == "__main__":
    main()
