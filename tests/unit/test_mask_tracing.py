"""Outlines of mask regions: what is traced and drawn again is the mask."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from sandbox.datasets import Point, Shape
from sandbox.layouts.geometry import bounds, ring_area
from sandbox.layouts.tracing import TooManyRegionsError, regions
from sandbox.training.outlines import label_map, ring_of

MANY = 100_000


def mask(*rows: str) -> NDArray[np.bool_]:
    """Return a mask drawn with # and spaces."""
    return np.array([[cell == "#" for cell in row] for row in rows])


def drawn(rings: list[tuple[Point, ...]], height: int, width: int) -> NDArray[np.bool_]:
    """Draw outlines as the semantic trainer does."""
    shapes = [(ring_of(Shape("a", bounds(ring), ring)), 1) for ring in rings]
    return label_map(shapes, height, width) == 1


def test_a_block_is_its_four_corners() -> None:
    """Corners lie between pixels: a block of 2x3 pixels has the area 6."""
    (ring,) = regions(mask("    ", " ## ", " ## ", " ## "), MANY)
    assert sorted(ring) == [(1, 1), (1, 4), (3, 1), (3, 4)]
    assert ring_area(ring) == 6


def test_pixels_that_touch_at_a_corner_are_two_regions() -> None:
    """Regions are connected at sides, in reading order."""
    assert [bounds(ring) for ring in regions(mask("# ", " #"), MANY)] == [(0, 0, 1, 1), (1, 1, 1, 1)]


def test_a_hole_is_cut_out_by_a_ring_that_runs_into_it() -> None:
    """One ring, whose area is that of the pixels, and a region inside the hole is one of its own."""
    frame = mask("#######", "#     #", "# ### #", "# # # #", "# ### #", "#     #", "#######")
    outer, inner = regions(frame, MANY)
    assert (ring_area(outer), ring_area(inner)) == (24, 8)
    assert (drawn([outer, inner], 7, 7) == frame).all()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_any_mask_is_drawn_again_to_the_pixel(share: float) -> None:
    """Noise has every kind of corner, nested holes among them; areas add up to the pixels."""
    rng = np.random.default_rng(int(share * 10))
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(1, 24, 2))
        noise = rng.random((height, width)) < share
        rings = regions(noise, MANY)
        assert sum(map(ring_area, rings)) == noise.sum()
        assert (drawn(rings, height, width) == noise).all()


def test_neighbouring_classes_do_not_eat_each_other() -> None:
    """A class inside another one, and one that frames it thinly, are all drawn again to the pixel."""
    values = np.zeros((40, 60), np.int64)
    values[2:38, 3:50], values[4:36, 5:48], values[10:20, 10:40], values[12:14, 12:14] = 1, 2, 3, 0
    outlines = [(ring_of(Shape("a", bounds(r), r)), v) for v in (1, 2, 3) for r in regions(values == v, MANY)]
    assert (label_map(outlines, 40, 60) == values).all()


def test_noise_is_refused_before_it_is_traced_in_full() -> None:
    """A mask of a million specks ends as soon as the limit is passed."""
    with pytest.raises(TooManyRegionsError):
        regions(np.indices((2000, 2000)).sum(0) % 2 == 0, 5000)


def test_a_large_mask_takes_the_time_of_its_outline() -> None:
    """A disc of 3000 pixels across is traced in well under the time that every pixel would take."""
    y, x = np.ogrid[:3000, :3000]
    start = time.process_time()
    (ring,) = regions((x - 1500) ** 2 + (y - 1500) ** 2 < 1400**2, MANY)
    assert time.process_time() - start < 2
    assert ring_area(ring) == pytest.approx(np.pi * 1400**2, rel=1e-3)
