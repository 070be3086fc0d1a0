"""A field in an array and a source in an image file, or the reverse: the rows of both are the same."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError

HEIGHT, WIDTH = 16, 20
ANGLES = [-20.0, -10.0, 0.0, 10.0, 20.0]
FLAT = (np.float32(1000) + 100 * np.arange(HEIGHT, dtype=np.float32))[:, None] * np.ones(
    (1, WIDTH), np.float32
)
LINES = np.random.default_rng(0).uniform(0.2, 0.6, (5, HEIGHT, WIDTH))
LINES[:, :4] += 1.0  # the specimen is no mirror image of itself
COUNTS = (FLAT * np.exp(-LINES)).astype(np.float32)


def save(path, array):
    """Write rows in the order of the array, into a file of any format."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, array)
    elif path.suffix == ".npz":
        np.savez(path, data=array)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["exchange/data"] = array
    elif path.suffix == ".zarr":
        zarr.create_array(path, data=array)
    else:
        np.save(path, array)
    return path


def ingested(folder, source, field, *, counts=COUNTS, flat=FLAT, **options):
    stack = save(folder / f"s{source}", counts)
    given = {"flat": save(folder / f"f{field}", flat)} | options
    out = folder / f"o{source[1:]}{field[1:]}.zarr"
    return ingest(stack, out, angles=ANGLES, despike=False, **given)


@pytest.mark.parametrize("source", [".tif", ".npy", ".h5"])
@pytest.mark.parametrize("field", [".tif", ".npy", ".npz", ".h5", ".zarr"])
def test_a_flat_field_goes_with_the_rows_of_the_file(tmp_path, source, field):
    series = ingested(tmp_path, source, field)
    expected = LINES[:, ::-1] if source == ".tif" else LINES
    np.testing.assert_allclose(series.read(slice(None)), expected, atol=1e-4)
    assert not any("order of rows" in w for w in series.meta.provenance.warnings)


@pytest.mark.parametrize(("source", "field"), [(".tif", ".npy"), (".npy", ".tif")])
def test_a_field_that_fits_upside_down_only_is_refused(tmp_path, source, field):
    with pytest.raises(
        InputError, match=r"fits the views better upside down.*format of the source"
    ):
        ingested(tmp_path, source, field, flat=FLAT[::-1])


def test_a_dark_field_that_the_views_do_not_tell_of_is_warned_of(tmp_path):
    r = np.random.default_rng(1)
    dark = r.uniform(0, 200, (HEIGHT, WIDTH)).astype(np.float32)
    views = r.uniform(1000, 3000, (5, HEIGHT, WIDTH)).astype(np.float32)
    file = save(tmp_path / "d.npy", dark)
    with_dark = {"counts": views + dark, "flat": dark + 5000, "dark": file}
    series = ingested(tmp_path, ".tif", ".tif", **with_dark)
    np.testing.assert_allclose(series.read(slice(None)), -np.log(views / 5000)[:, ::-1], atol=1e-3)
    (warning,) = [w for w in series.meta.provenance.warnings if "order of rows" in w]
    assert warning.startswith("the dark field d.npy")


def test_a_field_without_a_top_is_not_spoken_of(tmp_path):
    even = np.full((HEIGHT, WIDTH), 4000, np.float32)
    series = ingested(tmp_path, ".tif", ".npy", flat=even)
    assert not any("rows" in fact.what for fact in series.meta.provenance.facts)
