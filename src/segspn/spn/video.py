"""Refining the masks of a video: each frame's evidence also hears what the frames before it say."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segspn.backbone import Frame, covered, label_shares, pad, search_places
from segspn.foreground import matching_keys
from segspn.heap import apart, keep_free_memory, tidy
from segspn.instance import Memory, MemoryConfig
from segspn.instance.cut import Scene, frame_layout
from segspn.instance.motion import flow, grey
from segspn.instance.rivals import alikeness, pairs_alike
from segspn.spn.refiner import SpnRefiner, look, without_inventions

LEAST = 0.25
_REACH = 96  # pixels around an object's last place where votes are looked up


class VideoRefiner:
    """An SPN refiner with an appearance memory of bounded size, for one video.

    ``step`` refines the next frame, ``accept`` takes what was made of it into the memory. A refiner
    without an embedding (the published networks) has no memory and treats every frame alone.
    """

    def __init__(self, refiner: SpnRefiner, count: int, config: MemoryConfig | None = None) -> None:
        """For ``count`` objects."""
        keep_free_memory()
        self.refiner = refiner
        self.device = refiner.propagation.gain.device
        parent = refiner.parent
        self._memory = None if parent is None else Memory(config or MemoryConfig(), parent.scale.item())
        self._index = 0
        self._known = torch.zeros(count, dtype=torch.bool, device=self.device)
        self._alike = torch.ones(count, count, device=self.device)  # until it is known better
        self._last: Tensor | None = None
        self._grey: Tensor | None = None
        self._scene: Scene | None = None
        self._frame: Frame | None = None

    def cut(self) -> bool:
        """Whether the frame last stepped, not yet accepted, shows another scene than the one before."""
        if self._scene is None or self._frame is None:
            return False
        return not self._scene.goes_on(frame_layout(self._frame, self._keys(self._frame)))

    def motion(self) -> np.ndarray | None:
        """How the frame last stepped, not yet accepted, has moved since the one before: float32
        ``(2, h, w)``, x and y of where each cell was, in cells. None: not known."""
        if self._grey is None or self._frame is None:
            return None
        return self._frame.crop(flow(self._grey, grey(self._frame)), 4).numpy()

    def alike(self) -> list[tuple[int, int]] | None:
        """The pairs of objects, by position, that look alike, or that have not both been seen yet; None:
        not known."""
        return None if self._memory is None else pairs_alike(self._alike)

    @torch.inference_mode()
    def step(self, pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Refine float32 scores ``(N, H, W)`` in 0..1 of the frame ``pixels``, uint8 ``(H, W, 3)``.

        Objects without a pixel of at least `LEAST` are left as they are: what a tool has not seen
        cannot be refined.
        """
        tidy()  # after the frame before, which not every refiner accepts into a memory
        self._frame = frame = look(pixels, self.device)
        there = np.flatnonzero(scores.max((1, 2)) >= LEAST)
        if not len(there):
            return scores
        seen = scores if len(there) == len(scores) else scores[there]
        given = torch.from_numpy(seen).to(self.device)
        votes = self._votes(frame, given, torch.from_numpy(there).to(self.device))
        found = self.refiner.refine_full(frame, given, votes).cpu().numpy()
        without_inventions(found, seen)
        if seen is scores:
            return found
        refined = scores.copy()
        refined[there] = found
        return refined

    @torch.inference_mode()
    def accept(self, pixels: np.ndarray, labels: np.ndarray, ids: tuple[int, ...]) -> None:
        """Remember the int32 ``labels`` ``(H, W)`` of the frame last stepped, or of an annotated one."""
        frame, self._frame = self._frame, None
        if frame is None:
            frame = look(pixels, self.device)
        self._grey = apart(grey(frame))
        if self._memory is None or self.refiner.parent is None:
            return
        rows, columns = (
            (np.arange(n) * full) // n for n, full in zip(frame.size, labels.shape, strict=True)
        )
        shares = label_shares(labels[rows][:, columns], ids, self.device)
        there = shares.amax((1, 2)) > 0.5
        # A frame that shows an object for the first time is remembered for good.
        first = bool((there & ~self._known).any())
        self._known |= there
        keys = self._keys(frame)
        now = frame_layout(frame, keys)
        self._scene = Scene(now) if self._scene is None else self._scene.followed_by(now)
        self._memory.add(keys, shares, self._index, annotated=first)
        if first:
            found = alikeness(*self._memory.annotated())
            self._alike = torch.where(found > -1, found, self._alike)
        self._last = shares
        self._index += 1

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed refiner needs."""
        state = {"index": torch.tensor(self._index), "known": self._known, "alike": self._alike}
        if self._grey is not None:
            state["grey"] = self._grey
        if self._last is not None and self._scene is not None and self._memory is not None:
            state["last"] = self._last
            state |= {f"scene.{k}": v for k, v in self._scene.state().items()}
            state |= {f"memory.{k}": v for k, v in self._memory.state().items()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Counterpart of :meth:`state`, for the same number of objects."""
        self._index, self._known = int(state["index"]), state["known"].to(self.device)
        self._alike = state["alike"].to(self.device)
        self._last, self._grey, self._frame = state.get("last"), state.get("grey"), None
        scene = {k[6:]: v for k, v in state.items() if k.startswith("scene.")}
        self._scene = Scene.restored(scene) if scene else None
        if self._memory is not None:
            self._memory.restore({k[7:]: v for k, v in state.items() if k.startswith("memory.")})

    def _votes(self, frame: Frame, given: Tensor, there: Tensor) -> Tensor | None:
        """Shares ``(M, Hp / 4, Wp / 4)`` that the memory votes for, 0.5 for objects it has not seen.

        ``given`` ``(M, H, W)`` are the scores of the objects ``there``, indices ``(M,)``.
        """
        if self._memory is None or self._last is None:
            return None
        small = F.interpolate(given[None], size=frame.size, mode="area")
        near = torch.maximum(self._last[there], F.avg_pool2d(pad(small), 4)[0])
        keys = self._keys(frame)
        votes = self._memory.read(keys, covered(search_places(near, _REACH), keys, 8))
        return torch.where(self._known[there, None, None], votes[there], 0.5)

    def _keys(self, frame: Frame) -> Tensor:
        parent, backbone = self.refiner.parent, self.refiner.backbone
        assert parent is not None and backbone is not None
        return matching_keys(frame, backbone, parent)
