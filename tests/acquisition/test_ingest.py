"""Ingest: every format ends in the same store, and what cannot be used leaves no trace."""

import mrcfile
import numpy as np
import pytest
from skimage import io

from ddgm_dist.acquisition import ingest as module
from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.acquisition.store import blocks
from ddgm_dist.errors import InputError
from ddgm_dist.samples import sample_path
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

ANGLES = (-50.0, -10.0, 20.0, 60.0)
DATA = np.random.default_rng(0).integers(0, 30000, size=(4, 19, 23)).astype(np.uint16)
ALL = slice(None)
# The horizontal tilt axis becomes vertical by a quarter turn: no mirror image.
TURNED = DATA.transpose(0, 2, 1)[:, :, ::-1]


def as_npz(path):
    np.savez(path / "s.npz", projections=DATA, angles_deg=ANGLES)
    return path / "s.npz", {}


def as_npy(path):
    np.save(path / "s.npy", DATA)
    return path / "s.npy", {"angles": list(ANGLES)}


def as_npy_with_a_table_beside_it(path):
    np.save(path / "s.npy", DATA)
    (path / "s.tlt").write_text("\n".join(map(str, ANGLES)))
    return path / "s.npy", {}


def as_mrc(path):
    with mrcfile.new(path / "s.st") as mrc:
        mrc.set_data(DATA)
        mrc.voxel_size = 50.0
    (path / "s.rawtlt").write_text("\n".join(map(str, ANGLES)))
    return path / "s.st", {}


def as_images(path):
    (path / "s").mkdir()
    for i, image in enumerate(DATA):  # the top row first
        io.imsave(path / f"s/tilt_{i}.tif", image[::-1], check_contrast=False)
    (path / "angles.txt").write_text("\n".join(map(str, ANGLES)))
    return path / "s", {"angles": path / "angles.txt"}


@pytest.mark.parametrize("kind", [as_npz, as_npy, as_npy_with_a_table_beside_it, as_mrc, as_images])
def test_every_format_makes_the_same_store(tmp_path, kind):
    source, options = kind(tmp_path)
    series = ingest(source, tmp_path / "t.zarr", thickness=9, description="x", **options)
    assert series.dtype == np.uint16
    np.testing.assert_array_equal(series.read(ALL), DATA)
    meta = series.meta
    assert (meta.angles_deg, meta.thickness_px, meta.description) == (ANGLES, 9, "x")
    assert meta.pixel_size_nm == (5.0 if kind is as_mrc else None)


@pytest.mark.parametrize("kind", [as_npz, as_images])
def test_small_blocks_make_the_same_store(tmp_path, kind, monkeypatch):
    source, options = kind(tmp_path)
    monkeypatch.setattr(blocks, "_MOST_BYTES", 1)
    series = ingest(source, tmp_path / "t.zarr", tilt_axis="columns", **options)
    np.testing.assert_array_equal(series.read(ALL), TURNED)


def test_what_is_given_wins_over_what_the_source_says(tmp_path):
    np.savez(
        tmp_path / "s.npz",
        projections=DATA,
        angles_deg=[-30, -10, 10, 30],
        pixel_size_nm=1,
        thickness_px=5,
        dark_level=7,
    )
    series = ingest(tmp_path / "s.npz", tmp_path / "a.zarr")
    assert (series.meta.pixel_size_nm, series.meta.thickness_px) == (1, 5)
    np.testing.assert_array_equal(series.read(ALL), DATA.astype(np.float32) - 7)
    series = ingest(
        tmp_path / "s.npz",
        tmp_path / "b.zarr",
        angles=ANGLES,
        pixel_size_nm=2,
        thickness=6,
        dark=100.5,
    )
    assert series.meta.angles_deg == ANGLES
    assert (series.meta.pixel_size_nm, series.meta.thickness_px) == (2, 6)
    np.testing.assert_array_equal(series.read(ALL), DATA.astype(np.float32) - 100.5)


def test_parts_are_taken_after_the_transposition(tmp_path):
    source, _ = as_npz(tmp_path)
    series = ingest(
        source, tmp_path / "t.zarr", tilt_axis="columns", rows=slice(3, 20), columns=slice(2, 17)
    )
    np.testing.assert_array_equal(series.read(ALL), TURNED[:, 3:20, 2:17])
    assert series.meta.shifts_px is None
    open_end = ingest(source, tmp_path / "u.zarr", rows=slice(3, None))
    assert open_end.shape == (4, 16, 23)


def test_columns_off_the_centre_keep_a_point_in_its_place(tmp_path):
    shifts = np.array([[0.0, 0.3], [0.0, -0.2], [1.0, 0.0], [0.0, 2.0]])
    np.savez(tmp_path / "s.npz", projections=DATA, angles_deg=ANGLES, shifts_px=shifts)
    series = ingest(tmp_path / "s.npz", tmp_path / "t.zarr", columns=slice(10, 22))
    x0 = (10 + 21) / 2 - (23 - 1) / 2
    z, x = 3.0, 6.5
    cos, sin = np.cos(np.deg2rad(ANGLES)), np.sin(np.deg2rad(ANGLES))
    column = x * cos + z * sin + shifts[:, 1] + (23 - 1) / 2
    dy, dx = np.array(series.meta.shifts_px).T
    np.testing.assert_allclose((x - x0) * cos + z * sin + dx + (12 - 1) / 2 + 10, column)
    np.testing.assert_array_equal(dy, shifts[:, 0])


def bad_source(path, dtype=np.float32):
    data = DATA.astype(dtype)
    data[2, 5, 7] = np.nan
    data[0, 12, 1] = np.inf
    np.savez(path / "bad.npz", projections=data, angles_deg=ANGLES)
    return path / "bad.npz", data


def test_bad_pixels_are_refused_with_their_number_and_place(tmp_path):
    source, _ = bad_source(tmp_path)
    with pytest.raises(
        InputError, match=r"2 NaN or infinite .*\(2, 5, 7\), \(0, 12, 1\).*impute-nonfinite"
    ):
        ingest(source, tmp_path / "t.zarr")
    assert not (tmp_path / "t.zarr").exists()
    with pytest.raises(InputError, match=r"first at .*= \(0, 1, 6\), \(2, 7, 13\)"):
        ingest(source, tmp_path / "t.zarr", tilt_axis="columns")


def test_bad_pixels_outside_the_part_kept_do_not_matter(tmp_path):
    source, data = bad_source(tmp_path)
    series = ingest(source, tmp_path / "t.zarr", rows=slice(6, 12))
    np.testing.assert_array_equal(series.read(ALL), data[:, 6:12])


def test_masked_pixels_become_nan(tmp_path):
    source, data = bad_source(tmp_path, np.float64)
    series = ingest(source, tmp_path / "t.zarr", impute_nonfinite=True)
    expected = data.astype(np.float32)
    expected[~np.isfinite(expected)] = np.nan
    np.testing.assert_array_equal(series.read(ALL), expected)
    assert series.record.bad.count == 2
    # Said once, it need not be said to reconstruct again.
    assert series.meta.bad_pixels == "unmeasured"
    whole = ingest(source, tmp_path / "u.zarr", impute_nonfinite=True, rows=slice(6, 12))
    assert whole.meta.bad_pixels is None


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_what_is_the_matter_with_the_pixels_is_told(tmp_path, dtype, caplog):
    r = np.random.default_rng(0)
    angles = np.arange(-60, 61, 10.0)
    slab = 1000 / np.cos(np.deg2rad(angles))[:, None, None]
    data = (slab * (1 + 0.05 * r.standard_normal((13, 30, 60))) + 2000).astype(dtype)
    np.save(tmp_path / "good.npy", data - dtype(2000))
    options = {"angles": angles.tolist(), "thickness": 9}
    ingest(tmp_path / "good.npy", tmp_path / "good.zarr", **options)
    assert not caplog.records
    data[3, 4, 5] = 60000
    data[7] = 0
    data[2, 11] = 0
    data[5:, :, -4:] = 0
    np.save(tmp_path / "s.npy", data)
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", **options)
    kept = np.delete(data, 7, axis=0)
    np.testing.assert_array_equal(series.read(ALL), kept)  # told, not changed
    assert [(v.view, v.angle_deg) for v in series.meta.provenance.left_out] == [(8, 10.0)]
    told = [r.getMessage() for r in caplog.records]
    assert all("s.npy: " in line and "\n" not in line for line in told)
    view, hot, row, edges, constant = told
    assert "view 8 (+10 degrees) is blank" in view
    assert "it is left out" in view
    assert "1 pixel stands out" in hot
    assert "view 4 (-30 degrees), row 4, column 5" in hot
    assert "view 3 (-40 degrees), row 11" in row
    assert "7 edges of views are filled" in edges
    assert "view 6 (-10 degrees), rows 0 to 29, columns 56 to 59; view 7 (+0 degrees)" in edges
    assert "view 9 (+20 degrees), rows 0" in edges  # as --exclude counts, the eighth is left out
    assert not any("as they are stored" in line for line in told)
    assert 1900 < float(constant.split("--dark ")[1].split()[0]) < 2100
    # With that subtracted as well as 500 before, the whole is named.
    caplog.clear()
    ingest(tmp_path / "s.npy", tmp_path / "v.zarr", dark=500, **options)
    level = float(caplog.records[-1].getMessage().split("--dark ")[1].split()[0])
    assert 1900 < level < 2100


def test_a_refused_source_does_not_cost_the_old_store(tmp_path):
    good, _ = as_npz(tmp_path)
    ingest(good, tmp_path / "t.zarr")
    with pytest.raises(InputError, match="exists already"):
        ingest(good, tmp_path / "t.zarr")
    bad, _ = bad_source(tmp_path)
    with pytest.raises(InputError, match="NaN"):
        ingest(bad, tmp_path / "t.zarr", overwrite=True)
    assert ingest(good, tmp_path / "t.zarr", overwrite=True).shape == DATA.shape


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"angles": None}, "angles"),
        ({"angles": "none.tlt"}, "angles"),
        ({"angles": ANGLES[:3]}, "angles_deg"),
        ({"angles": (*ANGLES[:3], float("nan"))}, "angles_deg"),
        ({"angles": (*ANGLES[:3], -85.0)}, "angles_deg"),
        ({"thickness": 0}, "thickness_px"),
        ({"pixel_size_nm": -1.0}, "pixel_size_nm"),
        ({"tilt_axis": "diagonal"}, "tilt_axis"),
        ({"rows": slice(3, 3)}, "rows"),
        ({"rows": slice(3, 20)}, "rows"),
        ({"rows": slice(-3, None)}, "rows"),
        ({"columns": slice(0, 24)}, "columns"),
        ({"columns": slice(0, 8, 2)}, "columns"),
        ({"dark": float("nan")}, "dark"),
    ],
)
def test_bad_options_are_refused_by_name(tmp_path, options, argument):
    np.save(tmp_path / "s.npy", DATA)
    with pytest.raises(InputError) as refused:
        ingest(tmp_path / "s.npy", tmp_path / "t.zarr", **{"angles": ANGLES, **options})
    assert refused.value.argument == argument
    assert not (tmp_path / "t.zarr").exists()


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_processes_that_cannot_be_are_refused_before_anything_is_read(
    tmp_path, monkeypatch, workers
):
    monkeypatch.setattr(module, "open_source", lambda *args, **options: pytest.fail("opened"))
    with pytest.raises(InputError) as refused:
        ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=ANGLES, workers=workers)
    assert refused.value.argument == "workers"


@pytest.mark.parametrize("kind", [as_npz, as_npy_with_a_table_beside_it, as_mrc])
@pytest.mark.parametrize(
    ("angles", "says"), [([12.0] * 4, "all 4 angles are 12"), (["a", "b", "c", "d"], "list of num")]
)
def test_angles_are_looked_at_wherever_they_come_from(tmp_path, kind, angles, says):
    source, _ = kind(tmp_path)
    with pytest.raises(InputError, match=says):
        ingest(source, tmp_path / "t.zarr", angles=angles)
    assert not (tmp_path / "t.zarr").exists()


def test_a_table_with_decimal_commas_is_refused(tmp_path):
    # Half as many lines as views: its numbers would be just as many.
    np.save(tmp_path / "s.npy", DATA)
    (tmp_path / "s.tlt").write_text("-50,5\n-40,5\n")
    for angles in (None, tmp_path / "s.tlt"):
        with pytest.raises(InputError, match=r"s\.tlt: line 1 of 2 .*decimal comma"):
            ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=angles)
    assert ingest(tmp_path / "s.npy", tmp_path / "u.zarr", angles=ANGLES).meta.angles_deg == ANGLES
    (tmp_path / "s.tlt").write_text("7\n" * 4)
    with pytest.raises(InputError, match=r"s\.tlt: all 4 angles are 7"):
        ingest(tmp_path / "s.npy", tmp_path / "t.zarr")
    np.savez(tmp_path / "s.npz", projections=DATA, angles_deg=[0.0] * 4)
    with pytest.raises(InputError, match="all 4 angles are 0"):
        ingest(tmp_path / "s.npz", tmp_path / "t.zarr")


def test_images_named_by_signed_angles_go_with_ascending_angles(tmp_path, caplog):
    (tmp_path / "s").mkdir()
    for angle, image in zip(ANGLES, DATA, strict=True):
        io.imsave(tmp_path / f"s/s_{angle:+.0f}.tif", image[::-1], check_contrast=False)
    (tmp_path / "s/._s_-50.tif").write_bytes(b"hidden")
    series = ingest(tmp_path / "s", tmp_path / "t.zarr", angles=ANGLES)
    np.testing.assert_array_equal(series.read(ALL), DATA)
    (pairs,) = (f.value for f in series.meta.provenance.facts if f.what == "images and angles")
    assert pairs == "s_-50.tif -> -50, s_+20.tif -> 20, s_+60.tif -> 60"
    assert not caplog.records
    # Without a list the names tell.
    assert ingest(tmp_path / "s", tmp_path / "n.zarr").meta.angles_deg == ANGLES
    ingest(tmp_path / "s", tmp_path / "u.zarr", angles=(-10.0, -50.0, 20.0, 60.0))
    assert "s_-50.tif is taken for -10 degrees" in caplog.text


def test_values_that_float32_does_not_hold_are_refused_with_their_place(tmp_path):
    data = DATA.astype(np.float64)
    data[2, 5, 7] = 4e40
    np.save(tmp_path / "s.npy", data)
    for options in ({}, {"impute_nonfinite": True}):
        with pytest.raises(InputError, match=r"4e\+40 at \(2, 5, 7\), beyond float32's 3\.4e\+38"):
            ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=ANGLES, **options)
    assert not (tmp_path / "t.zarr").exists()


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint32"])
def test_an_offset_that_leaves_no_contrast_in_float32_is_refused(tmp_path, dtype):
    data = np.random.default_rng(1).integers(0, 90, size=(4, 8, 16)) + 2_000_000_000
    np.save(tmp_path / "s.npy", data.astype(dtype))
    with pytest.raises(InputError, match="next to nothing of the contrast is left"):
        ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=ANGLES)
    np.save(tmp_path / "s.npy", (data - 2_000_000_000).astype(dtype))
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=ANGLES)
    np.testing.assert_array_equal(series.read(ALL), data - 2_000_000_000)


@pytest.mark.parametrize("dtype", [">f4", "float16", "int16"])
def test_what_float32_holds_is_never_refused_for_its_contrast(tmp_path, dtype):
    np.save(tmp_path / "s.npy", np.full((4, 8, 16), 1000, dtype))
    assert (ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=ANGLES).read(ALL) == 1000).all()


def test_unknown_sources_are_refused(tmp_path):
    (tmp_path / "s.doc").write_text("")
    (tmp_path / "s.h5").write_text("")
    unknown = ("none.npz", "does not exist"), ("s.doc", "no MRC, TIFF, HDF5"), ("s.h5", "empty")
    for source, says in unknown:
        with pytest.raises(InputError, match=says):
            ingest(tmp_path / source, tmp_path / "t.zarr", angles=ANGLES)


def test_the_needle_sample_is_a_tilt_series(tmp_path):
    series = ingest(sample_path("needle"), tmp_path / "t.zarr", thickness=96)
    assert series.shape == (77, 32, 160)
    assert series.meta.angles_deg == tuple(range(-76, 77, 2))
    assert series.meta.pixel_size_nm == 3.36
    # Line integrals: the sum over the detector is the mass, whatever the tilt ...
    values = series.read(ALL).astype(np.float64)
    mass = values.sum(axis=(1, 2))
    assert mass.std() < 0.01 * mass.mean()
    # ... and the centre of mass turns about the axis that the shifts put at the origin.
    angles = np.deg2rad(series.meta.angles_deg)
    dx = np.array(series.meta.shifts_px)[:, 1]
    u = np.arange(160) - 159 / 2
    centre = (values.sum(axis=1) @ u) / mass - dx
    basis = np.stack([np.cos(angles), np.sin(angles), np.ones(77)], axis=1)
    fit, *_ = np.linalg.lstsq(basis, centre)
    assert abs(fit[2]) < 0.05
    assert np.abs(basis @ fit - centre).max() < 0.2
    # Vacuum on both sides is zero to a thousandth of the specimen.
    assert np.abs(np.median(values[:, :, :28])) < 1e-3 * values.max()


def test_the_sample_is_what_its_description_says(shared_data):
    with np.load(shared_data / "tilt_haadf_needle/haadf_needle.npz") as source:
        expected = source["aligned"][:, 48:208, 112:144].transpose(0, 2, 1)
    with np.load(sample_path("needle")) as sample:
        np.testing.assert_array_equal(sample["projections"], expected)
    notice = shared_data / "tilt_haadf_needle/LICENSE.txt"
    assert sample_path("needle").with_name("needle.NOTICE.txt").read_bytes() == notice.read_bytes()


def test_there_are_no_other_samples():
    with pytest.raises(InputError, match="needle"):
        sample_path("haystack")


def test_a_zarr_store_needs_no_ingest(tmp_path):
    write_tilt_series(tmp_path / "t.zarr", DATA, TiltSeriesMeta(ANGLES))
    with pytest.raises(InputError, match="give it to plan or reconstruct"):
        ingest(tmp_path / "t.zarr", tmp_path / "o.zarr")


def test_the_first_rows_do_not_tell_for_all(tmp_path, monkeypatch, caplog):
    """A quiet beginning, and contrast further on: none of that is hot, but what stands out of it is."""
    monkeypatch.setattr(blocks, "_MOST_BYTES", 1)
    angles = np.linspace(-60, 60, 13)
    r = np.random.default_rng(0)
    data = r.normal(100, 0.5, (13, 256, 100)).astype(np.float32)
    data[:, 64:] = r.normal(100, 60, (13, 192, 100))
    data[4, 200, 50] = 1e5
    np.save(tmp_path / "s.npy", data)
    ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=angles.tolist())
    (hot,) = (r.getMessage() for r in caplog.records if "stand" in r.getMessage())
    assert "1 pixel stands out" in hot
    assert "view 5 (-20 degrees), row 200, column 50" in hot
