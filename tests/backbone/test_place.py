from __future__ import annotations

import pytest
import torch

from segspn.backbone import ALIGN, Place, covered, search_places


def test_a_place_holds_its_object_and_the_margin() -> None:
    there = torch.zeros(40, 60, dtype=torch.bool)  # stride 4: 160 x 240 pixels
    there[20:22, 30] = True  # pixels 80 to 88, 120 to 124
    assert Place.around(there, 4, 0) == Place(64, 96, 96, 128)
    assert Place.around(there, 4, 17) == Place(32, 96, 128, 160)
    assert Place.around(there, 4, 500) == Place(0, 0, 160, 240)  # as far as the frame goes
    assert Place.around(torch.zeros_like(there), 4, 10) is None


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_cutting_at_any_stride(stride: int) -> None:
    place = Place(32, 64, 96, 160)
    rows, columns = torch.meshgrid(
        torch.arange(0, 128, stride), torch.arange(0, 192, stride), indexing="ij"
    )
    cut = place.cut(torch.stack((rows, columns)), stride)
    assert tuple(cut.shape[1:]) == tuple(n // stride for n in place.size) == (64 // stride, 96 // stride)
    assert cut[:, 0, 0].tolist() == [32, 64]
    cut.zero_()  # a view: what is written into it is written into the maps
    assert rows[32 // stride, 64 // stride] == 32


def test_grown_to_one_of_few_sizes() -> None:
    """Around the one given, moved where the frame ends; all of it where no size fits."""
    limits = (480, 864)
    assert Place(160, 320, 320, 480).grown(limits) == Place(160, 320, 352, 512)
    assert Place(0, 704, 160, 864).grown(limits) == Place(0, 672, 192, 864)
    assert Place(32, 0, 448, 800).grown(limits) == Place(0, 0, 480, 864)
    sizes = set()
    for top, left in ((0, 0), (64, 96), (96, 512)):
        for height in range(32, 480 - top + 1, 32):
            for width in range(32, 864 - left + 1, 32):
                place = Place(top, left, top + height, left + width)
                grown = place.grown(limits)
                assert Place.joined((grown, place)) == grown and grown.grown(limits) == grown
                assert Place.joined((grown, Place(0, 0, *limits))) == Place(0, 0, *limits)
                sizes.add(grown.size)
    heights, widths = {128, 192, 256, 384, 480}, {128, 192, 256, 384, 512, 768, 864}
    assert sizes == {(h, w) for h in heights for w in widths}


def test_within_another_and_joined() -> None:
    one, other = Place(32, 64, 96, 160), Place(64, 32, 160, 96)
    whole = Place.joined((one, other))
    assert whole == Place(32, 32, 160, 160)
    maps = torch.rand(192, 192)
    assert torch.equal(one.within(whole).cut(whole.cut(maps)), one.cut(maps))


def test_objects_are_searched_around_where_they_were_and_lost_ones_everywhere() -> None:
    shares = torch.zeros(2, 4 * ALIGN // 4, 4 * ALIGN // 4)
    shares[0, 12, 12] = 1  # pixels 48 to 52
    shares[1, 8, 20] = 0.2  # less than a quarter of a cell
    near, whole = search_places(shares, 8)
    assert near == Place(32, 32, 64, 64) and whole == Place(0, 0, 128, 128)
    cells = covered([near], torch.zeros(3, 16, 16), 8)
    assert cells.sum() == 16 and cells[4:8, 4:8].all()
    assert covered([near, whole], torch.zeros(16, 16), 8).all()
