"""How long a frame takes what a user would pick instead, with random weights.

    pip install -e ".[rivals]"      # transformers for sam2, rf-cutie for cutie

Neither needs torchvision here: SAM 2 is fed tensors through its inference session, Cutie's video
loaders are not imported. With random weights the masks are noise; the arithmetic is the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from unittest import mock

import cv2
import numpy as np

Figures = dict[str, Any]


class Missing(Exception):
    """A rival that is not installed: one line that says how to mend it."""


@dataclass(frozen=True)
class Clip:
    """``frames``: uint8 RGB ``(H, W, 3)``; ``labels`` of the first one, int32 ``(H, W)``."""

    frames: list[np.ndarray]
    labels: np.ndarray

    def frame(self, index: int) -> np.ndarray:
        """Frame ``index`` of the clip played forward and backward without end."""
        turn = index % (2 * len(self.frames) - 2)
        return self.frames[min(turn, 2 * len(self.frames) - 2 - turn)]


def _figures(load: float, times: list[float], last: int) -> Figures:
    """``times``: seconds of all frames, the annotated one first; of the last ones the mean counts,
    since these methods do more on some frames than on others."""
    return {"load": load, "fit": times[0], "step": statistics.mean(times[-last:])}


def sam2(clip: Clip) -> Figures:
    """SAM 2.1 tiny (Ravi et al., 2024), 1024x1024, from `transformers`.

    Its memory holds seven frames: three are timed after it has filled.
    """
    import torch
    from torch.nn.functional import interpolate

    try:
        from transformers import Sam2VideoConfig, Sam2VideoModel
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
    except ImportError as error:
        raise Missing(f"no {error.name}: pip install 'segspn[rivals]'") from error
    begun = time.perf_counter()
    torch.manual_seed(0)
    config = Sam2VideoConfig()
    model = Sam2VideoModel(config).eval()
    load = time.perf_counter() - begun
    side = config.image_size
    height, width = clip.labels.shape
    session = Sam2VideoInferenceSession(
        video_height=height, video_width=width, dtype=torch.float32
    )
    ids = [int(i) for i in np.unique(clip.labels) if i]
    times = []
    with torch.inference_mode():
        for t in range(config.num_maskmem + 4):
            clock = time.perf_counter()
            if t == 0:
                for i in ids:
                    mask = cv2.resize((clip.labels == i).astype(np.float32), (side, side))
                    given = torch.from_numpy(mask)[None, None].round()
                    session.add_mask_inputs(session.obj_id_to_idx(i), 0, given)
                session.obj_with_new_inputs = list(ids)
            image = cv2.resize(clip.frame(t), (side, side)).astype(np.float32) / 255
            image = (image - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
            frame = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
            masks = model(inference_session=session, frame=frame, frame_idx=t).pred_masks
            interpolate(masks, size=(height, width), mode="bilinear", align_corners=False)
            session.processed_frames.pop(t)  # else it keeps every frame it was fed
            times.append(time.perf_counter() - clock)
    return _figures(load, times, 3)


def cutie(clip: Clip) -> Figures:
    """Cutie-small (Cheng et al., CVPR 2024) as it is evaluated on DAVIS, from `rf-cutie`.

    It works at 480 lines whatever the size, and remembers every fifth frame, five at most: five frames
    are timed after that.
    """
    import torch

    try:
        from cutie.inference.inference_core import InferenceCore
        from cutie.inference.utils.args_utils import get_dataset_cfg
        from cutie.model.cutie import CUTIE
        from cutie.model.utils import resnet
        from omegaconf import OmegaConf
    except ImportError as error:
        raise Missing(f"no {error.name}: pip install 'segspn[rivals]'") from error
    begun = time.perf_counter()
    torch.manual_seed(0)
    folder = resources.files("cutie") / "config"
    names = ("eval_config", "model/base", "model/small")
    parts = [OmegaConf.create((folder / f"{name}.yaml").read_text()) for name in names]
    config = OmegaConf.merge(parts[0], {"model": OmegaConf.merge(*parts[1:])})
    config.max_internal_size = 480
    get_dataset_cfg(config)
    # It would fetch ImageNet weights only to overwrite them with its own.
    with (
        mock.patch.object(resnet.model_zoo, "load_url"),
        mock.patch.object(resnet, "load_weights_add_extra_dim"),
    ):
        network = CUTIE(config).eval()
    core = InferenceCore(network, cfg=config)
    load = time.perf_counter() - begun
    ids = [int(i) for i in np.unique(clip.labels) if i]
    times = []
    with torch.inference_mode():
        for t in range(config.mem_every * config.max_mem_frames + 6):
            clock = time.perf_counter()
            image = torch.from_numpy(clip.frame(t)).permute(2, 0, 1).float() / 255
            if t == 0:
                probabilities = core.step(image, torch.from_numpy(clip.labels).long(), ids)
            else:
                probabilities = core.step(image)
            core.output_prob_to_mask(probabilities)
            times.append(time.perf_counter() - clock)
    return _figures(load, times, config.mem_every)


RIVALS: Mapping[str, Callable[[Clip], Figures]] = {"sam2": sam2, "cutie": cutie}
