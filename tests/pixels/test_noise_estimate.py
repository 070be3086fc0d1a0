"""Noise by view: white noise as ever, correlated noise by pixels that are not neighbours."""

import math

import pytest
import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.pixels.noise_estimate import (
    STRIDES,
    correlated_noise,
    estimate_noise,
    noise_of_lines,
    noise_of_views,
)

GEOMETRY = Geometry((-40.0, 0.0, 40.0), thickness=8, rows=24, field=200)


def white(seed: int = 0) -> Tensor:
    return torch.randn((3, 24, 200), generator=torch.Generator().manual_seed(seed))


def smoothed(share: float) -> Tensor:
    """White noise, moved by a share of a pixel along both axes by linear interpolation."""
    noise = white()
    noise = (1 - share) * noise + share * noise.roll(1, 1)
    return (1 - share) * noise + share * noise.roll(1, 2)


def strides(projections: Tensor) -> list[tuple[float, ...]]:
    found = noise_of_views(projections, GEOMETRY)
    return [tuple(map(float, found[t])) for t in range(3)]


def test_neighbours_give_the_noise_that_they_gave() -> None:
    """To the bit, for what the problem holds follows from it."""
    for view, scale in enumerate(noise_of_views(white(), GEOMETRY).values()):
        assert scale[0] == noise_of_lines(white()[view].double())
        assert float(scale[0]) == estimate_noise(white()[view : view + 1])


def test_white_noise_is_the_same_at_all_distances() -> None:
    for view in strides(white()):
        assert view == pytest.approx([1.0] * len(STRIDES), rel=0.08)
    assert correlated_noise(strides(white()), (math.inf,) * 3) is None


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_noise_that_was_interpolated_is_found_whole(share: float) -> None:
    """Neighbours alone show a third of it, half a pixel away."""
    true = (1 - share) ** 2 + share**2
    data = smoothed(share)
    assert float(data.std()) == pytest.approx(true, rel=0.03)
    assert estimate_noise(data) < 0.75 * true
    found = correlated_noise(strides(data), (10.0,) * 3)
    assert found is not None
    assert found == pytest.approx([true] * 3, rel=0.12)


def test_each_view_has_its_own() -> None:
    data = smoothed(0.5)
    data[1] = white()[1]
    found = correlated_noise(strides(data), (10.0,) * 3)
    assert found is not None
    assert found == pytest.approx([0.5, 1.0, 0.5], rel=0.12)


def test_texture_that_the_views_agree_on_is_no_noise() -> None:
    """The differences grow with the distance, but no more than so much can be noise."""
    texture = [(1.0, 3.0, 6.0)] * 3
    assert correlated_noise(texture, (1.1,) * 3) is None
    assert correlated_noise(texture, (2.0, 1.5, 9.0)) == (2.0, 1.5, 3.0)
    # Faults of some views are no noise of all.
    assert correlated_noise(texture, (1.0, 1.0, 9.0)) is None


def test_views_that_were_not_measured_have_none() -> None:
    good = torch.ones((3, 24, 200), dtype=torch.bool)
    good[1] = False
    assert sorted(noise_of_views(white(), GEOMETRY, good)) == [0, 2]
    assert sorted(noise_of_views(white(), GEOMETRY, good, every=True)) == [0, 1, 2]


@pytest.mark.parametrize("shape", [(1, 4), (3, 3), (2, 9), (6, 6), (7, 7)])
def test_views_of_any_size_have_a_noise(shape: tuple[int, int]) -> None:
    """Zero where no pixels are so far apart."""
    for stride in STRIDES:
        found = float(noise_of_lines(white()[0, : shape[0], : shape[1]].double(), stride=stride))
        assert math.isfinite(found)
        assert found == 0 or max(shape) > 2 * stride
