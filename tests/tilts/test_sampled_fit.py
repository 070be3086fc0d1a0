"""Rows that are read once tell noise from misfit, in thin slabs and in binned ones."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.tilts import first_image
from ddgm_dist.tilts.first_image import image_columns
from ddgm_dist.tilts.recorded_estimate import Estimate, RowsFit
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.sampled_fit import SampledFit, _places, fit_sampled_rows
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.small_runs import project, specimen

ANGLES = tuple(float(a) for a in range(-60, 61, 4))
FIELD, ROWS = 200, 24
Floats = np.ndarray


def fitted(path: Path, data: Floats, thickness: int, intensity: Intensity) -> SampledFit:
    meta = TiltSeriesMeta(ANGLES, thickness_px=None)
    series = write_tilt_series(path, data.astype(np.float32), meta, overwrite=True)
    return fit_sampled_rows(series, series.geometry(thickness), intensity)


def share(fit: RowsFit, views: slice = slice(None)) -> float:
    return sum(fit.sums.shared[views]) / sum(fit.sums.squared[views])


def white(seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((len(ANGLES), ROWS, FIELD))


@given(st.integers(1, 5000))
def test_every_row_has_its_own_neighbours(rows: int) -> None:
    places = _places(rows)
    assert len(places) == min(4, rows)
    for row, lines in places:
        assert row in lines
        assert lines.start >= 0
        assert lines.stop <= rows
        assert len(lines) == 3 or rows < 12
    assert all(a.stop <= b.start for (_, a), (_, b) in pairwise(places))


@pytest.mark.parametrize("thickness", [12, 100, 200], ids=["whole", "binned", "binned more"])
def test_white_noise_has_no_structure_however_thick_the_slab(
    tmp_path: Path, thickness: int
) -> None:
    """A residual of noise alone is correlated, the more the thicker the slab."""
    found = fitted(tmp_path / "t.zarr", white(1), thickness, Intensity(0.0, 1.0, 1.0))
    fit = found.rows
    assert found.unexplained is not None
    assert 0.04 < found.unexplained.left < 1
    squared = sum(fit.sums.squared) / sum(fit.sums.samples)
    assert squared == pytest.approx(found.unexplained.left, rel=0.15)
    assert abs(share(fit)) < 0.05
    assert fit.rows == 4


@pytest.mark.parametrize(("thickness", "width", "move"), [(12, 4, 9), (100, 8, 30)])
def test_views_that_contradict_each_other_have(
    tmp_path: Path, thickness: int, width: int, move: int
) -> None:
    coarse = ndi.gaussian_filter1d(specimen(thickness, 1, 600), width, axis=2)
    clean = np.repeat(project(coarse, FIELD, ANGLES), ROWS, axis=1)
    contrast = (clean - clean.mean(axis=2, keepdims=True)).std()
    data = clean + 0.1 * contrast * white()
    intensity = Intensity(float(clean.mean()) / thickness, 20.0, 1.0)
    good = fitted(tmp_path / "t.zarr", data, thickness, intensity).rows
    assert abs(share(good)) < 0.15
    data[20] = np.roll(data[20], move, axis=1)
    bad = fitted(tmp_path / "t.zarr", data, thickness, intensity).rows
    assert share(bad) > 0.25
    assert share(bad, slice(20, 21)) > 0.3
    worst = np.argmax(np.divide(bad.sums.squared, bad.sums.samples))
    assert worst == 20


def test_what_is_left_does_not_depend_on_the_unit(tmp_path: Path) -> None:
    data = 100 + white()
    one = fitted(tmp_path / "t.zarr", data, 12, Intensity(8.0, 1.0, 1.0))
    other = fitted(tmp_path / "t.zarr", 1e3 * data, 12, Intensity(8e3, 1e3, 1e3))
    assert other.rows.sums.squared == pytest.approx(one.rows.sums.squared, rel=1e-3)
    assert one.unexplained is not None
    assert other.unexplained is not None
    assert other.unexplained.views == pytest.approx(1e3 * np.array(one.unexplained.views), rel=1e-3)


def test_each_place_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[int, int]]()

    def counted(*args: object, **keys: object) -> object:
        seen.append((int(args[3]), int(args[4])))  # type: ignore[call-overload]
        return read_rows(*args, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr("ddgm_dist.tilts.sampled_fit.read_rows", counted)
    fitted(tmp_path / "t.zarr", white(), 12, Intensity(0.0, 1.0, 1.0))
    assert seen == [(2, 5), (8, 11), (14, 17), (20, 23)]


def test_the_image_is_made_of_its_own_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_image, "_COLUMNS", 40)
    monkeypatch.setattr(first_image, "_REACHES", 0)
    given = list[Any]()
    monkeypatch.setattr("ddgm_dist.tilts.sampled_fit.likeness_of", lambda *args: given.extend(args))
    data = white().astype(np.float32)
    fitted(tmp_path / "t.zarr", data, 12, Intensity(0.0, 1.0, 1.0))
    columns, values, valid = given
    assert (columns.start, columns.stop) == (80, 120)
    np.testing.assert_array_equal(values[1], data[:, 8:11, 80:120])
    assert all(v.shape == values[0].shape and v.all() for v in valid)


def test_a_fit_comes_back_from_its_values(tmp_path: Path) -> None:
    found = fitted(tmp_path / "t.zarr", white(), 12, Intensity(0.0, 1.0, 1.0)).rows
    assert found.likeness is not None
    kept = Estimate(Intensity(0.0, 1.0, 1.0), fit=found)
    assert Estimate.from_dict(kept.to_dict()) == kept
    former = {k: v for k, v in kept.to_dict().items() if k != "fit"}
    assert Estimate.from_dict(former).fit is None
    assert kept.with_given(None, None) == kept
    assert kept.with_given(0.0, 1.0) == kept
    assert kept.with_given(2.0, None).fit is None
    assert kept.with_given(None, 2.0).fit is None


def test_too_few_views_make_no_image(tmp_path: Path) -> None:
    """Their streaks would be taken for detail."""
    few = ANGLES[::3]
    series = write_tilt_series(
        tmp_path / "t.zarr", white()[::3].astype(np.float32), TiltSeriesMeta(few)
    )
    found = fit_sampled_rows(series, series.geometry(64), Intensity(0.0, 1.0, 1.0))
    assert found.rows.likeness is None
    assert found.unexplained is not None
    assert found.unexplained.left < 0.1


@pytest.mark.parametrize("field", [300, 301, 2000])
def test_a_first_image_is_of_the_middle(field: int) -> None:
    shifts = ((0.0, 1.5), (2.0, -3.0))
    whole = Geometry((-60.0, 0.0), 12, 9, field, shifts)
    found = image_columns(whole, 10, field - 5)
    assert found is not None
    width = found.geometry.field
    assert (found.start, found.stop) == (found.start, found.start + width)
    assert found.start >= 10
    assert found.stop <= field - 5
    assert width <= 512
    for tilt, (dy, dx) in enumerate(shifts):
        mine = found.geometry.shift(tilt)
        assert mine[0] == dy
        assert found.start + (width - 1) / 2 + mine[1] == pytest.approx((field - 1) / 2 + dx)


def test_no_image_is_made_of_a_specimen_in_vacuum() -> None:
    assert image_columns(Geometry(ANGLES, 12, 9, 100, (), "vacuum"), 0, 100) is None
