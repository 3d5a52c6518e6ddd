"""Offline training of the prompt net on stills: simulated users hint, look at answers, and correct."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from segspn.data.stills import Stills
from segspn.data.synthetic import Scene
from segspn.prompts.net import PromptNet, hint_maps
from segspn.prompts.users import framed, stroke, worst_click
from segspn.training.mistakes import mistaken_mask
from segspn.training.parent import MOST

STRIDE = 4
MOST_ROUNDS = 3


class PromptScenes(Dataset[dict[str, np.ndarray]]):
    """Scenes with one object that is meant: ``scene`` its number, ``image`` uint8 (3, S, S), ``mask``
    uint8 (S, S), ``seed`` of the user's randomness.

    There are ``pool`` scenes, drawn once and kept; they come again with other objects and other users,
    so that their features, which cost most, are computed once (`PromptTrainer`).
    """

    def __init__(
        self, stills: Stills, count: int, pool: int, size: int = 192, seed: int = 0
    ) -> None:
        self.stills, self.count, self.pool, self.size, self.seed = stills, count, pool, size, seed
        self._scenes: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        number = index % self.pool
        if number not in self._scenes:
            rng = np.random.default_rng((self.seed, number))
            scene = Scene(self.stills, rng, self.size, most_objects=MOST, trim=True)
            view = scene.view(rng, 0.3, 0.1)
            while view.labels.max() == 0:
                view = scene.view(rng, 0.0, 0.1)
            self._scenes[number] = (view.image.transpose(2, 0, 1).copy(), view.labels)
        image, labels = self._scenes[number]
        rng = np.random.default_rng((self.seed, index, 3))
        present = [i for i in np.unique(labels) if i > 0]
        mask = labels == rng.choice(present)
        if rng.random() < 0.25:  # a rider and what is ridden may be one object
            near = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
            mask = np.isin(labels, [i for i in np.unique(labels[near]) if i > 0])
        return {
            "scene": np.array(number),
            "image": image,
            "mask": mask.astype(np.uint8),
            "seed": np.array(rng.integers(2**31)),
        }


@dataclass
class User:
    """A simulated user of one object, on the grid of stride 4."""

    mask: np.ndarray
    rng: np.random.Generator
    draws: bool = False
    positive: np.ndarray = field(init=False)
    negative: np.ndarray = field(init=False)
    box: tuple[float, float, float, float] | None = None
    previous: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.positive, self.negative = np.zeros_like(self.mask), np.zeros_like(self.mask)

    def begin(self, image: np.ndarray, exact: np.ndarray) -> None:
        """The first hint: a box, a click, a stroke, or a correction of a mask that is there already.

        ``image`` uint8 ``(S, S, 3)`` and ``exact`` bool ``(S, S)``, at full size.
        """
        kind = self.rng.random()
        if kind < 0.35:
            x0, y0, x1, y1 = framed(exact)
            jitter = 0.04 * self.rng.normal(0, 1, 4) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0)
            corners = (np.array([x0, y0, x1, y1]) + jitter) / STRIDE
            self.box = tuple(corners.tolist())
        elif kind < 0.65:
            self.correct(np.zeros_like(self.mask))
        elif kind < 0.85:
            self.draws = True
            self.positive |= stroke(self.mask, self.rng, int(self.rng.integers(2, 6)))
            if self.rng.random() < 0.4:
                ring = cv2.dilate(self.mask.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
                self.negative |= stroke(ring & ~self.mask, self.rng, 2)
        else:
            given = mistaken_mask(exact, image, np.zeros_like(exact), self.rng, severe=True)
            small = _shrunk(given)
            self.correct(small > 0.5)
            self.previous = small

    def correct(self, found: np.ndarray) -> None:
        """Look at an answer, bool ``(h, w)``, and mark the worst of it."""
        click = worst_click(found, self.mask)
        if click is None:
            return
        x, y, positive = click
        if self.rng.random() < 0.5:  # people do not hit the very centre
            x = int(np.clip(x + self.rng.normal(0, 1.5), 0, self.mask.shape[1] - 1))
            y = int(np.clip(y + self.rng.normal(0, 1.5), 0, self.mask.shape[0] - 1))
            positive = bool(self.mask[y, x])
        seeds = self.positive if positive else self.negative
        seeds[y, x] = True
        if self.draws:
            wrong = (self.mask & ~found) if positive else (found & ~self.mask)
            seeds |= stroke(wrong, self.rng, 2)

    def maps(self) -> np.ndarray:
        """The hints so far, as the net reads them."""
        return hint_maps(self.positive, self.negative, self.box, self.previous)


class PromptTrainer(nn.Module):
    """Frozen backbone, trunk and keys, trained rest; keeps each scene's features in half precision."""

    def __init__(self, backbone: nn.Module, net: PromptNet) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.net = net
        self.net.trunk.requires_grad_(False)
        self.net.key.requires_grad_(False)
        self._features: dict[int, dict[int, Tensor]] = {}

    def train(self, mode: bool = True) -> PromptTrainer:
        super().train(mode)
        for frozen in (self.backbone, self.net.trunk, self.net.key):
            frozen.eval()  # stored statistics, always
        return self

    def features(self, scenes: Tensor, images: Tensor) -> dict[int, Tensor]:
        """The backbone's features of a batch, at strides 4 to 32."""
        for number, image in zip(scenes.tolist(), images, strict=True):
            if number not in self._features:
                with torch.no_grad():
                    made = self.backbone(
                        image[None].float().contiguous(memory_format=torch.channels_last)
                    )
                self._features[number] = {s: f.half() for s, f in made.items() if s >= 4}
        banks = [self._features[number] for number in scenes.tolist()]
        return {s: torch.cat([bank[s].float() for bank in banks]) for s in banks[0]}


def prompt_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy and overlap after up to `MOST_ROUNDS` corrections of the net's own answers."""
    assert isinstance(model, PromptTrainer)
    device = model.net.out.weight.device
    features = model.features(batch["scene"], batch["image"].to(device))
    exact = batch["mask"].numpy() > 0
    target = torch.from_numpy(np.stack([_shrunk(m) for m in exact]))[:, None].to(device)
    users = []
    for mask, image, seed in zip(exact, batch["image"].numpy(), batch["seed"].tolist(), strict=True):
        user = User(_shrunk(mask) > 0.5, np.random.default_rng(seed))
        user.begin(np.ascontiguousarray(image.transpose(1, 2, 0)), mask)
        users.append(user)
    rounds = int(users[0].rng.integers(MOST_ROUNDS + 1))
    for _ in range(rounds):
        with torch.no_grad():
            model.eval()
            answers = model.net(features, _hints(users, device)).float().sigmoid()[:, 0].cpu().numpy()
            model.train()
        for user, answer in zip(users, answers, strict=True):
            user.correct(answer > 0.5)
            user.previous = answer
    logits = model.net(features, _hints(users, device)).float()
    share = target.mean((2, 3), keepdim=True).clamp(0.05, 0.95)
    weight = (target * (1 - share) + (1 - target) * share) / (share * (1 - share)) / 2
    cross = F.binary_cross_entropy_with_logits(logits, target, weight=0.5 + 0.5 * weight)
    found = logits.sigmoid()
    both, either = (found * target).sum((2, 3)), (found + target - found * target).sum((2, 3))
    overlap = 1 - ((both + 1) / (either + 1)).mean()
    hard, truth = logits > 0, target > 0.5
    iou = ((hard & truth).sum((2, 3)) / (hard | truth).sum((2, 3)).clamp(min=1)).mean()
    figures = {"loss": cross.item(), "overlap": overlap.item(), "iou": iou.item(), "rounds": rounds}
    return cross + overlap, figures


def _hints(users: list[User], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack([user.maps() for user in users])).to(device)


def _shrunk(mask: np.ndarray) -> np.ndarray:
    """Bool ``(S, S)`` -> shares float32 ``(S / 4, S / 4)``."""
    size = (mask.shape[1] // STRIDE, mask.shape[0] // STRIDE)
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
