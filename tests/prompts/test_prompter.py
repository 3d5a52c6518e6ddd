"""From hints to masks, with the shipped weights."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from segspn.backbone import Frame, load_backbone
from segspn.prompts import Answer, Prompter, Prompts
from segspn.prompts.net import MAPS, PromptNet, hint_maps
from segspn.prompts.users import framed, stroke, worst_click

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (150, 210)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two blue discs on a brown texture, and their masks."""
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (*SIZE, 3)), (0, 0), 3)
    image = np.clip((120, 90, 60) + 60 * noise, 0, 255).astype(np.uint8)
    masks = np.zeros((2, *SIZE), np.uint8)
    cv2.circle(masks[0], (60, 70), 36, 1, -1)
    cv2.circle(masks[1], (165, 90), 24, 1, -1)
    for mask, colour in zip(masks, ((40, 70, 200), (60, 90, 190)), strict=True):
        image[mask > 0] = colour
    return image, masks[0] > 0, masks[1] > 0


def iou(answer: Answer, truth: np.ndarray) -> float:
    found = answer.scores > 0.5
    return float((found & truth).sum() / (found | truth).sum())


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return Prompter.load(torch.device("cpu"))


def test_a_box_a_click_and_a_stroke_find_the_object(prompter: Prompter) -> None:
    image, left, right = scene()
    look = prompter.look(image)
    for truth in (left, right):
        x, y, _ = worst_click(np.zeros_like(truth), truth) or (0, 0, True)
        drawn = stroke(truth, np.random.default_rng(0), 4)
        for hints in (
            Prompts(box=framed(truth)),
            Prompts(clicks=((x, y, True),)),
            Prompts(positive=drawn),
        ):
            answer = look.answer(hints)
            assert answer.scores.shape == SIZE and answer.scores.dtype == np.float32
            assert iou(answer, truth) > 0.8, hints


def test_further_hints_correct_and_marked_pixels_are_as_marked(prompter: Prompter) -> None:
    image, left, right = scene()
    look = prompter.look(image)
    # A mask from elsewhere that holds both, and a click: not the right one.
    both = Prompts(clicks=((60, 70, True), (165, 90, False)))
    answer = look.answer(both, left | right)
    assert answer.scores[90, 165] == 0 and answer.scores[70, 60] == 1
    assert iou(answer, left) > 0.8 > left.sum() / (left | right).sum()
    assert answer.prompts.clicks[-1] == (165, 90, False)
    # One with a part missing, and a click on that part.
    part = left.copy()
    part[:, 60:] = False
    mended = look.answer(Prompts(clicks=((78, 70, True),)), part)
    assert iou(mended, left) > 0.8 > (part & left).sum() / left.sum()


def test_nothing_far_outside_a_box(prompter: Prompter) -> None:
    image, left, right = scene()
    answer = prompter.look(image).answer(Prompts(box=framed(right)))
    x0, y0, x1, y1 = framed(right)
    beyond = np.ones(SIZE, bool)
    beyond[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4] = False
    assert not answer.scores[beyond].any()


def test_the_same_hints_give_the_same_answer(prompter: Prompter) -> None:
    """What a look has computed for other answers makes no difference."""
    image, left, right = scene()
    used = prompter.look(image)
    used.answer(Prompts(box=framed(right)))
    hints = Prompts(clicks=((60, 70, True),))
    assert np.array_equal(used.answer(hints).scores, prompter.look(image).answer(hints).scores)


def test_hints_add_up() -> None:
    a, b = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    a[10:20, 10:20], b[15:25, 15:25] = True, True
    joined = Prompts(((1, 2, True),), (0, 0, 9, 9), positive=a).joined(
        Prompts(((1, 2, True), (3, 4, False)), None, negative=b)
    )
    assert joined.clicks == ((1, 2, True), (3, 4, False)) and joined.box == (0, 0, 9, 9)
    positive, negative = joined.seeds(SIZE)
    assert positive[12, 12] and not positive[17, 17] and negative[17, 17]  # the newest stroke counts
    assert positive[2, 1] and negative[4, 3] and not positive[4, 3]
    # A click on an earlier one takes its place.
    turned = joined.joined(Prompts(((1, 2, False),))).seeds(SIZE)
    assert turned[1][2, 1] and not turned[0][2, 1]


def test_hint_maps() -> None:
    marks = np.zeros((10, 12), bool)
    marks[4, 5] = True
    maps = hint_maps(marks, np.zeros_like(marks), (2.0, 1.0, 8.0, 9.0), None)
    assert maps.shape == (MAPS, 10, 12) and maps.dtype == np.float32
    assert maps[0, 4, 5] == 1 and 0 < maps[0, 4, 8] < maps[1, 4, 8] < 1 and not maps[2:4].any()
    assert maps[4, 5, 5] == 1 and maps[4, 0, 0] == -1 and not maps[5:].any()
    before = np.full((10, 12), 0.25, np.float32)
    assert np.allclose(hint_maps(marks, marks, None, before)[4:, 0, 0], [0, -0.5, 1])


def test_the_net_takes_any_size() -> None:
    backbone = load_backbone()
    net = PromptNet(backbone.channels).eval()
    frame = Frame(np.zeros((70, 130, 3), np.uint8), torch.device("cpu"))
    h, w = (n // 4 for n in frame.image.shape[-2:])
    with torch.inference_mode():
        assert net(frame.features(backbone), torch.zeros(1, MAPS, h, w)).shape == (1, 1, h, w)
