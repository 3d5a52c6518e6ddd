"""The stages in order: ``Segmenter`` holds the models, ``Session`` one video's typed state."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from segspn.backbone import Frame, label_shares
from segspn.craf import Craf, build_craf, merge
from segspn.errors import InputError
from segspn.foreground import Samples
from segspn.models import MODELS
from segspn.presets import Preset, load_preset
from segspn.spn import VideoRefiner

STATE_VERSION = 1


@dataclass(frozen=True)
class Stages:
    """What each stage made of a frame; probabilities in 0..1 at full resolution, float32.

    ``foreground`` ``(H, W)``; ``coarse`` ``(N, H, W)`` before SPN, ``refined`` ``(N, H, W)`` after it.
    On an annotated frame all three are the annotation itself. The first two are brought to full
    resolution when they are read: most runs never do.
    """

    refined: np.ndarray
    upsample: Callable[[Tensor], np.ndarray]
    foreground_map: Tensor
    coarse_maps: Tensor

    @property
    def foreground(self) -> np.ndarray:
        return self.upsample(self.foreground_map[None])[0]

    @property
    def coarse(self) -> np.ndarray:
        return self.upsample(self.coarse_maps)


@dataclass(frozen=True)
class Result:
    """``labels`` int32 ``(H, W)``; ``scores`` float32 ``(N, H, W)`` after CRAF, in the order of ``ids``.

    ``timings``: seconds per stage.
    """

    labels: np.ndarray
    scores: np.ndarray
    ids: tuple[int, ...]
    stages: Stages
    timings: dict[str, float]


def resolve_device(name: str) -> torch.device:
    """``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda`` or ``mps``; InputError when absent."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(n for n in ("cuda", "mps", "cpu") if available[n])
    if name not in available:
        raise InputError(f"unknown device {name!r}; choose one of auto, {', '.join(available)}")
    if not available[name]:
        raise InputError(f"device {name!r} is not available on this machine; use --device cpu")
    return torch.device(name)


class Segmenter:
    """The models of a preset on a device, shared by any number of sessions.

    >>> session = Segmenter("default").session()
    >>> first = session.annotate(frame0, labels0)
    >>> second = session.step(frame1)
    """

    def __init__(self, preset: str | Preset = "default", device: str = "auto") -> None:
        self.preset = load_preset(preset)
        self.device = resolve_device(device)
        self.model = MODELS[self.preset.model](self.preset, self.device)
        self.refiner = self.model.refiner

    def session(self) -> Session:
        return Session(self)

    def video_refiner(self, count: int) -> VideoRefiner:
        """A refiner of another tool's masks of one video with ``count`` objects."""
        return VideoRefiner(self.refiner, count)

    def load_session(self, path: str | Path) -> Session:
        """A session as ``save`` left it; it goes on exactly as the saved one would have."""
        return Session.restore(self, Path(path))


class Session:
    """One video: ``annotate`` the first frame, then ``step`` through the others, in either direction."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.preset = segmenter.preset
        self.ids: tuple[int, ...] = ()
        self.index = 0
        self.size: tuple[int, int] | None = None

    @torch.inference_mode()
    def annotate(self, pixels: np.ndarray, labels: np.ndarray) -> Result:
        """Learn the objects of the annotated frame (stages 1 and 2 are fitted here).

        ``pixels``: uint8 RGB ``(H, W, 3)``; ``labels``: integers ``(H, W)``, 0 background, other
        values object ids. Returns the annotation as a Result. Raises InputError for a mask that is
        empty or of another size, ValueError when the session has been annotated before.
        """
        if self.ids:
            raise ValueError("this session is annotated already; start a new one")
        if labels.shape != pixels.shape[:2]:
            raise InputError(
                f"the mask is {labels.shape[1]}x{labels.shape[0]}, the frame "
                f"{pixels.shape[1]}x{pixels.shape[0]}; they must agree"
            )
        labels = labels.astype(np.int32)
        ids = tuple(int(i) for i in np.unique(labels) if i > 0)
        if not ids:
            raise InputError("the mask is empty: it must mark at least one object")
        started = time.perf_counter()
        seg, preset = self.segmenter, self.preset
        self._open(ids, labels.shape)
        samples = Samples(pixels, labels, ids, preset.augment, preset.seed, seg.device)
        self.foreground.adapt(samples, preset.seed)
        self.instance.fit(samples, preset.seed)
        if self.craf is not None:
            self.craf.start(labels)
        self.index = 1
        onehot = np.stack([labels == i for i in ids]).astype(np.float32)
        exact = torch.from_numpy(onehot)
        stages = Stages(onehot, _as_it_is, exact.amax(0), exact)
        return Result(labels, onehot, ids, stages, {"fit": time.perf_counter() - started})

    @torch.inference_mode()
    def step(self, pixels: np.ndarray) -> Result:
        """Segment the next frame, uint8 RGB ``(H, W, 3)`` of the annotated frame's size."""
        if not self.ids:
            raise ValueError("annotate a frame before stepping")
        if pixels.shape[:2] != self.size:
            raise InputError(f"frame is {pixels.shape[:2]}, the annotated one {self.size} (H, W)")
        seg, timings = self.segmenter, dict[str, float]()
        with _timed(timings, "backbone"):
            frame = Frame(pixels, seg.device)
            seg.model.prepare(frame)
        with _timed(timings, "foreground"):
            foreground = self.foreground.predict(frame)
        with _timed(timings, "instance"):
            coarse = self.instance.predict(frame)
            coarse = self.foreground.keep_inside(coarse, foreground)
        with _timed(timings, "spn"):
            if self.preset.spn.enabled:
                refined = seg.refiner.refine(frame, coarse)
            else:
                refined = torch.from_numpy(_upsampler(frame)(coarse))
            scores = refined.cpu().numpy()
        with _timed(timings, "craf"):
            if self.craf is not None:
                filtered = self.craf.step(scores)
                final, labels = filtered.scores, filtered.labels
            else:
                final, labels = scores, merge(scores, self.ids, self.preset.threshold)
        with _timed(timings, "memory"):
            self.instance.accept(frame, label_shares(labels, self.ids, seg.device), self.index)
        self.index += 1
        stages = Stages(scores, _upsampler(frame), foreground, coarse)
        return Result(labels, final, self.ids, stages, timings)

    def save(self, path: str | Path) -> None:
        """Write the whole state into the folder ``path``: ``state.safetensors`` and ``state.json``.

        The JSON is replaced last and names the tensor file, so a killed save leaves the former state.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        assert self.size is not None, "nothing to save before annotate()"
        state = {f"foreground.{k}": v for k, v in self.foreground.state().items()}
        state |= {f"instance.{k}": v for k, v in self.instance.state().items()}
        if self.craf is not None:
            arrays = {k: torch.from_numpy(np.asarray(v).copy()) for k, v in self.craf.state().items()}
            state |= {f"craf.{k}": v for k, v in arrays.items()}
        name = f"state-{self.index % 2}.safetensors"
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, folder / name)
        meta = {
            "version": STATE_VERSION,
            "tensors": name,
            "ids": list(self.ids),
            "index": self.index,
            "size": list(self.size),
            "preset": asdict(self.preset),
        }
        temporary = folder / ".state.json.tmp"
        temporary.write_text(json.dumps(meta), encoding="utf-8")
        os.replace(temporary, folder / "state.json")

    @classmethod
    def restore(cls, segmenter: Segmenter, folder: Path) -> Session:
        """Counterpart of ``save``; InputError when the state is missing or of another preset."""
        try:
            meta = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: no readable session state ({error})") from error
        if meta.get("version") != STATE_VERSION:
            raise InputError(f"{folder}: session state of another version of segspn; start afresh")
        if meta["preset"] != json.loads(json.dumps(asdict(segmenter.preset))):
            raise InputError(f"{folder}: session state was made with another preset; start afresh")
        state = load_file(folder / meta["tensors"], device=str(segmenter.device))
        session = cls(segmenter)
        h, w = meta["size"]
        session._open(tuple(meta["ids"]), (h, w))
        session.index = meta["index"]
        session.foreground.restore(_under(state, "foreground."))
        session.instance.restore(_under(state, "instance."))
        if session.craf is not None:
            session.craf.restore({k: v.cpu().numpy() for k, v in _under(state, "craf.").items()})
        return session

    def _open(self, ids: tuple[int, ...], size: tuple[int, ...]) -> None:
        preset, model = self.preset, self.segmenter.model
        self.ids = ids
        self.size = (size[0], size[1])
        self.foreground = model.foreground(preset)
        self.instance = model.instances(preset, len(ids))
        self.craf: Craf | None = None
        if preset.craf.enabled:
            self.craf = build_craf(preset.craf.parameters, ids)


def _upsampler(frame: Frame) -> Callable[[Tensor], np.ndarray]:
    """Maps ``(N, h, w)`` over the padded frame, of any stride -> ``(N, H, W)``, bilinear.

    Holds sizes alone: a Result that somebody keeps must not keep the frame's features.
    """
    padded, (height, width) = frame.image.shape[-2:], frame.size

    def upsample(maps: Tensor) -> np.ndarray:
        if maps.shape[-2:] != padded:
            maps = F.interpolate(maps[None], size=padded, mode="bilinear", align_corners=False)[0]
        return maps[:, :height, :width].cpu().numpy()

    return upsample


def _as_it_is(maps: Tensor) -> np.ndarray:
    return maps.numpy()


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - started
