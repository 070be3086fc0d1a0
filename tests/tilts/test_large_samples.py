"""Samples of many views and wide fields are read in parts, which changes nothing and bounds memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab import consistency
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts import rows, sampled_rows
from ddgm_dist.tilts.series import TiltSeries, TiltSeriesMeta, write_tilt_series

ANGLES = tuple(np.linspace(-60, 60, 5).tolist())


def series(folder: Path, height: int = 20, field: int = 2500) -> TiltSeries:
    data = np.random.default_rng(0).standard_normal((5, height, field)).astype(np.float32)
    data[1, 3, 1022:1026] = 90.0
    # A line along y, which is not taken for hot pixels by those who see beyond the rows.
    data[3, 6:12, 1700 % field] = 90.0
    data[2, 5, field // 2] = np.nan
    return write_tilt_series(folder / f"{height}.zarr", data, TiltSeriesMeta(ANGLES, None))


@pytest.mark.parametrize("screen", [None, Screen(hot=20.0, patches=((0, 1, 2, 6, 1000, 1100),))])
@pytest.mark.parametrize("first", [(0,) * 5, (0, 3, 10, 50, 90)])
def test_columns_read_in_parts_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen | None, first: tuple[int, ...]
) -> None:
    tilts, part = series(tmp_path), DetectorPart(first, 2400)
    whole = rows.read_screened(tilts, slice(2, 8), part, screen)
    monkeypatch.setattr(rows, "_SCREENED_BYTES", 1)
    for a, b in zip(whole, rows.read_screened(tilts, slice(2, 8), part, screen), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not whole[1].all()


def test_views_probed_in_parts_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tilts = series(tmp_path)
    whole = sampled_rows.probe(tilts)
    monkeypatch.setattr(sampled_rows, "_PROBED_BYTES", 1)
    parts = sampled_rows.probe(tilts)
    assert parts.value() == whole.value()
    for a, b in zip(whole.probes, parts.probes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_bound_of_some_frequencies_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn((7, 5, 4), generator=torch.Generator().manual_seed(0))
    whole = (matrix @ matrix.mT).abs().sum(dim=2).amax(dim=1)
    monkeypatch.setattr(consistency, "_PRODUCT_BYTES", 4 * 25 * 3)
    assert torch.allclose(consistency._bound(matrix), whole)


def test_what_a_sample_takes_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = list[int]()
    for height in (80, 800):
        tilts = series(tmp_path, height, 600)
        geometry = Geometry(ANGLES, 30, height, 600)
        tracemalloc.start()
        for sample in sampled_rows.samples(tilts, geometry):
            del sample
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
