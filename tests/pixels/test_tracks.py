"""Points of the specimen are followed from view to view; rays and the detector's pixels are not."""

import numpy as np
import pytest

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.pixels.tracks import specimen_rows

ANGLES = tuple(float(a) for a in range(-60, 61, 3))
VIEWS = len(ANGLES)


def geometry(field: int = 500, rows: int = 60, thickness: int = 40, **keys) -> Geometry:
    return Geometry(ANGLES, thickness, rows, field, **keys)


def points(places, g: Geometry):
    """Where points ``(z, y, x)``, from the middle, are seen: to the nearest pixel."""
    found = []
    for t, angle in enumerate(g.angles):
        dy, dx = g.shift(t)
        for z, y, x in places:
            u = round(x * np.cos(angle) + z * np.sin(angle) + dx + (g.field - 1) / 2)
            row = round(y + dy)
            if 0 <= u < g.field and 0 <= row < g.rows:
                found.append((t, row, u))
    return tuple(np.array(found, dtype=np.int64).T)


def rays(share: float, g: Geometry, seed: int = 0):
    draw = np.random.default_rng(seed).random((VIEWS, g.rows, g.field)) < share
    return np.nonzero(draw)


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
def test_points_are_found_wherever_they_are(boundary) -> None:
    g = geometry(boundary=boundary)
    r = np.random.default_rng(1)
    for _ in range(20):
        place = (r.uniform(-19, 19), int(r.integers(60)), r.uniform(-200, 200))
        at = points([place], g)
        assert place[1] in specimen_rows(*at, g)
        # Also if a third of the views do not show it.
        kept = r.random(len(at[0])) < 0.8
        assert place[1] in specimen_rows(*(index[kept] for index in at), g)


def test_points_in_series_that_were_moved() -> None:
    shifts = tuple((float(np.sin(t) * 9), float(7 * np.cos(t))) for t in range(VIEWS))
    g = geometry(shifts_px=shifts)
    at = points([(5.0, 30, -80.0)], g)
    assert set(at[1].tolist()) <= set(specimen_rows(*at, g).tolist())


@pytest.mark.parametrize("field", [300, 4096])
@pytest.mark.parametrize("thickness", [10, 200])
@pytest.mark.parametrize("share", [1e-4, 1e-3, 4e-3])
def test_rays_are_none_however_many(field: int, thickness: int, share: float) -> None:
    g = geometry(field, 20, thickness)
    assert len(specimen_rows(*rays(share, g), g)) == 0


@pytest.mark.parametrize("column", [3, 120, 490])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_pixels_of_the_detector_are_none(column: int, share: float) -> None:
    """A cluster at its place in all views, or in half of them."""
    g = geometry()
    t, y, u = (i.ravel() for i in np.indices((VIEWS, 2, 3)))
    seen = np.random.default_rng(0).random(len(t)) < share
    assert len(specimen_rows(t[seen], y[seen] + 8, u[seen] + column, g)) == 0


def test_rows_of_points_are_told_from_rows_of_rays() -> None:
    g = geometry()
    at = [
        np.concatenate(both)
        for both in zip(points([(3.0, 40, 90.0)], g), rays(1e-3, g), strict=True)
    ]
    found = set(specimen_rows(*at, g).tolist())
    assert {40} <= found <= {39, 40, 41}


def test_few_views_tell_nothing() -> None:
    g = Geometry((-30.0, 0.0, 30.0), 8, 9, 50)
    at = np.array([0, 1, 2]), np.array([4, 4, 4]), np.array([20, 20, 20])
    assert len(specimen_rows(*at, g)) == 0
