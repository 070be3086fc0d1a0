"""From counts to line integrals, or a word that says that it may be wanted."""

import mrcfile
import numpy as np
import pytest
import scipy.ndimage as ndi

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import facts, mdoc_file, tilt_command

ALL = slice(None)
ANGLES = tuple(float(a) for a in range(-60, 61, 5))
BEAM = 2000.0


def counts(folder, beam=BEAM, dark=0.0):
    """A slab whose density varies, seen in transmission; returns path and line integrals."""
    r = np.random.default_rng(3)
    texture = ndi.gaussian_filter(r.standard_normal((len(ANGLES), 40, 48)), (0, 3, 3))
    texture = 1 + 0.15 * (texture - texture.mean(axis=(1, 2), keepdims=True)) / texture.std()
    lines = 0.7 * texture / np.cos(np.deg2rad(ANGLES))[:, None, None]
    data = r.poisson(beam * np.exp(-lines)) + dark
    with mrcfile.new(folder / "ts.mrc") as mrc:
        mrc.set_data(data.astype(np.int16))
    (folder / "ts.tlt").write_text("".join(f"{a}\n" for a in ANGLES))
    return folder / "ts.mrc", lines


def apart(series, lines):
    """Root mean square of the difference, and that of what the counts' noise alone makes."""
    return float(np.sqrt(np.nanmean((series.read(ALL) - lines) ** 2)))


def test_values_that_look_like_counts_are_warned_of_in_one_line(tmp_path, caplog):
    path, _ = counts(tmp_path)
    series = ingest(path, tmp_path / "t.zarr")
    assert series.dtype == np.int16
    (line,) = (r.getMessage() for r in caplog.records if "counts" in r.getMessage())
    assert "look like counts" in line
    assert "--counts auto" in line
    caplog.clear()
    ingest(path, tmp_path / "u.zarr", counts="none")
    assert not any("counts" in r.getMessage() for r in caplog.records)


def test_line_integrals_are_not_taken_for_counts(tmp_path, caplog):
    _path, lines = counts(tmp_path)
    np.save(tmp_path / "s.npy", lines)
    ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=ANGLES, thickness=9)
    assert not caplog.records


@pytest.mark.parametrize("witness", ["mdoc", "log"])
def test_they_are_converted_where_a_file_says_so_too(tmp_path, witness):
    path, lines = counts(tmp_path)
    if witness == "mdoc":
        mdoc_file(tmp_path, axis=0.0, order=range(25), angles=ANGLES)
    else:
        tilt_command(tmp_path, "THICKNESS 30", "LOG 0.0")
    series = ingest(path, tmp_path / "t.zarr")
    assert apart(series, lines) < 0.08
    value, origin = facts(series)["counts of the beam"]
    levels = [view.level for view in series.meta.provenance.views]
    assert max(abs(np.array(levels) / BEAM - 1)) < 0.05, (value, origin)


def test_the_beam_is_given_as_a_number_or_per_view(tmp_path):
    path, lines = counts(tmp_path)
    series = ingest(path, tmp_path / "t.zarr", counts=BEAM)
    assert apart(series, lines) < 0.06
    (tmp_path / "beam.txt").write_text("".join(f"{2 * BEAM}\n" for _ in ANGLES))
    doubled = ingest(path, tmp_path / "u.zarr", counts=tmp_path / "beam.txt")
    np.testing.assert_allclose(doubled.read(ALL), series.read(ALL) + np.log(2), atol=1e-5)
    for text, says in (
        ("1\n2\n", "has 2 numbers"),
        ("a\n" * 25, "line 1"),
        ("0\n" * 25, "positive"),
    ):
        (tmp_path / "beam.txt").write_text(text)
        with pytest.raises(InputError, match=says):
            ingest(path, tmp_path / "v.zarr", counts=tmp_path / "beam.txt")


def test_the_noise_of_the_counts_is_kept_by_view(tmp_path):
    path, lines = counts(tmp_path)
    series = ingest(path, tmp_path / "t.zarr", counts=BEAM)
    expected = 1 / np.sqrt(BEAM * np.exp(-lines).mean(axis=(1, 2)))
    np.testing.assert_allclose(series.meta.sigma_y, expected, rtol=0.15)


def test_dark_and_flat_fields_from_files(tmp_path):
    path, lines = counts(tmp_path, dark=100.0)
    flat = BEAM * np.linspace(0.5, 1.5, 48)[None] * np.ones((40, 1))
    with mrcfile.mmap(path, "r+") as mrc:
        shaded = (np.asarray(mrc.data, dtype=np.float64) - 100) * flat / BEAM + 100
        mrc.data[:] = np.round(shaded).astype(np.int16)
        mrc.update_header_stats()
    np.save(tmp_path / "flat.npy", np.repeat(flat[None] + 100, 3, axis=0))
    np.save(tmp_path / "dark.npy", np.full((2, 40, 48), 100.0))
    fields = {"dark": tmp_path / "dark.npy", "flat": tmp_path / "flat.npy"}
    series = ingest(path, tmp_path / "t.zarr", **fields)
    assert apart(series, lines) < 0.08
    assert "flat.npy" in facts(series)["flat field"][1]
    np.save(tmp_path / "flat.npy", np.ones((2, 40, 40)))
    with pytest.raises(InputError, match=r"\(40, 40\), the source of \(40, 48\)"):
        ingest(path, tmp_path / "u.zarr", **fields)


def test_fields_of_views_that_are_lower_than_a_block(tmp_path):
    """The small images that levels are found by have blocks of 3 x 3 pixels, and these views 2 rows."""
    lines = np.full((5, 2, 640), 0.7)
    lines[:, :, :100] = 0
    lines[:, :, 300:] += 0.2 * np.sin(np.arange(340) / 9)
    flat = BEAM * np.linspace(0.5, 1.5, 640) * np.ones((2, 1))
    values = np.random.default_rng(0).poisson(flat * np.exp(-lines)) + 100
    np.save(tmp_path / "s.npy", values.astype(np.float32))
    np.save(tmp_path / "flat.npy", flat + 100)
    np.save(tmp_path / "dark.npy", np.full((2, 640), 100.0))
    fields = {"dark": tmp_path / "dark.npy", "flat": tmp_path / "flat.npy"}
    angles = [-4, -2, 0, 2, 4]
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=angles, **fields)
    assert np.abs(series.read(slice(None)) - lines).mean() < 0.05


def test_the_beam_cannot_be_estimated_from_line_integrals(tmp_path):
    _, lines = counts(tmp_path)
    np.save(tmp_path / "s.npy", lines)
    with pytest.raises(InputError, match="counts = auto"):
        ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=ANGLES, counts="auto")


def test_a_logarithm_alone(tmp_path):
    _, lines = counts(tmp_path)
    np.save(tmp_path / "s.npy", np.exp(-lines))
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=ANGLES, log=True)
    np.testing.assert_allclose(series.read(ALL), lines, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"counts": -1.0}, "counts"),
        ({"counts": float("nan")}, "counts"),
        ({"counts": "sometimes.txt"}, "counts"),
        ({"log": True, "counts": "auto"}, "log"),
        ({"polarity": "bright", "counts": 5.0}, "polarity"),
        ({"polarity": "up"}, "polarity"),
        ({"bin": 0}, "bin"),
        ({"bin": 65}, "bin"),
        ({"exclude": [0]}, "exclude"),
        ({"exclude": [26]}, "exclude"),
        ({"max_angle": 0.0}, "max_angle"),
        ({"max_angle": 91.0}, "max_angle"),
        ({"tilt_axis_angle": float("inf")}, "tilt_axis_angle"),
        ({"tilt_axis_angle": 3.0, "tilt_axis": "columns"}, "tilt_axis_angle"),
        ({"xf": "nowhere.xf"}, "xf"),
        ({"dataset": "a"}, "dataset"),
    ],
)
def test_bad_options_are_refused_by_name(tmp_path, options, argument):
    path, _ = counts(tmp_path)
    with pytest.raises(InputError) as refused:
        ingest(path, tmp_path / "t.zarr", **options)
    assert refused.value.argument == argument
    assert not (tmp_path / "t.zarr").exists()


def test_binned_sizes_are_those_of_the_store(tmp_path):
    _path, lines = counts(tmp_path)
    shifts = np.full((25, 2), 4.0)
    np.savez(tmp_path / "s.npz", projections=lines, angles_deg=ANGLES, shifts_px=shifts)
    options = {"bin": 2, "thickness": 30, "pixel_size_nm": 1.5}
    series = ingest(tmp_path / "s.npz", tmp_path / "t.zarr", **options)
    assert series.shape == (25, 20, 24)
    meta = series.meta
    assert (meta.thickness_px, meta.pixel_size_nm, meta.shifts_px[0]) == (15, 3.0, (2.0, 2.0))
    # 40 rows are 13 of three and one that is left over: the middle lies a sixth of a pixel farther.
    odd = ingest(tmp_path / "s.npz", tmp_path / "u.zarr", bin=3)
    np.testing.assert_allclose(odd.meta.shifts_px[0], (4 / 3 + 1 / 6, 4 / 3))


def test_fields_of_images_that_are_lower_than_a_block(tmp_path):
    """A detector of two rows and many columns, as some beamlines keep."""
    r = np.random.default_rng(0)
    angles = np.arange(-60.0, 61, 6)
    lines = 0.5 / np.cos(np.deg2rad(angles))[:, None, None] * np.ones((1, 2, 640))
    np.save(tmp_path / "s.npy", (r.poisson(5000 * np.exp(-lines)) + 100).astype(np.uint16))
    np.save(tmp_path / "dark.npy", np.full((2, 640), 100.0))
    np.save(tmp_path / "flat.npy", np.full((2, 640), 5100.0))
    fields = {"dark": tmp_path / "dark.npy", "flat": tmp_path / "flat.npy"}
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=angles.tolist(), **fields)
    assert apart(series, lines) < 0.06


def test_pixels_without_a_count_are_half_of_one_and_named(tmp_path, caplog):
    r = np.random.default_rng(0)
    angles = np.arange(-60.0, 61, 6)
    lines = 0.5 / np.cos(np.deg2rad(angles))[:, None, None] * np.ones((1, 64, 64))
    np.save(tmp_path / "s.npy", r.poisson(4 * np.exp(-lines)).astype(np.int16) + 50)
    options = {"angles": angles.tolist(), "counts": 4.0, "dark": 50.0}
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", **options)
    assert "have no count" in caplog.text
    assert "--bin" in caplog.text
    floored = [view.floored for view in series.meta.provenance.views]
    empty = [(image == 50).sum() for image in np.load(tmp_path / "s.npy")]
    assert floored == empty
    assert float(np.nanmax(series.read(ALL))) == pytest.approx(np.log(4 / 0.5), rel=0.2)
    binned = ingest(tmp_path / "s.npy", tmp_path / "b.zarr", bin=8, **options)
    assert abs(float(np.nanmean(binned.read(ALL))) - lines.mean()) < 0.05


@pytest.mark.parametrize(
    ("level", "says"), [(100.0, "brighter than the beam"), (1e8, "hardly any")]
)
def test_a_beam_that_the_values_contradict_is_warned_of(tmp_path, caplog, level, says):
    path, _ = counts(tmp_path)
    ingest(path, tmp_path / "t.zarr", counts=level)
    assert says in caplog.text


def test_a_flat_field_must_be_above_the_dark_one(tmp_path):
    path, _ = counts(tmp_path)
    with pytest.raises(InputError, match="nowhere above the dark field"):
        ingest(path, tmp_path / "t.zarr", flat=0.0)
    with pytest.raises(InputError, match="give one of them"):
        ingest(path, tmp_path / "t.zarr", flat=500.0, counts=BEAM)


def test_dead_pixels_of_a_flat_field_are_unmeasured(tmp_path):
    path, _ = counts(tmp_path, dark=100.0)
    flat = np.full((40, 48), BEAM + 100)
    flat[5, 7] = 0
    np.save(tmp_path / "flat.npy", flat)
    series = ingest(path, tmp_path / "t.zarr", dark=100.0, flat=tmp_path / "flat.npy")
    read = series.read(ALL)
    assert np.isnan(read[:, 5, 7]).all()
    assert np.isnan(read).sum() == len(ANGLES)
    assert series.meta.bad_pixels == "unmeasured"
    assert facts(series)["dead pixels of the fields"][0] == "1, unmeasured"
    with pytest.raises(InputError, match="of no use where values are taken as they are"):
        ingest(path, tmp_path / "u.zarr", flat=tmp_path / "flat.npy", counts="none")


def slab_of_counts(folder, beam=BEAM, name="ts.npy"):
    """An even slab in transmission; ``beam`` may be one for each view."""
    r = np.random.default_rng(5)
    lines = 0.6 / np.cos(np.deg2rad(ANGLES))[:, None, None] * np.ones((1, 40, 48))
    lines *= 1 + 0.05 * ndi.gaussian_filter(r.standard_normal(lines.shape), (0, 2, 2)) * 5
    level = np.broadcast_to(np.asarray(beam, dtype=float), (len(ANGLES),))
    values = r.poisson(level[:, None, None] * np.exp(-lines)).astype(np.int16)
    np.save(folder / name, values)
    return folder / name, lines


def test_a_constant_after_the_logarithm_is_named(tmp_path, caplog):
    path, _ = slab_of_counts(tmp_path)
    options = {"angles": ANGLES, "thickness": 20}
    ingest(path, tmp_path / "t.zarr", counts=BEAM, **options)
    assert not any("constant" in r.getMessage() for r in caplog.records)
    caplog.clear()
    ingest(path, tmp_path / "u.zarr", counts=3 * BEAM, **options)
    (line,) = (r.getMessage() for r in caplog.records if "a constant of about" in r.getMessage())
    assert "a beam of 6000 (--counts)" in line
    assert 0.3 < float(line.split("a beam of ")[2].split()[0]) < 0.37  # times as much
    with pytest.raises(InputError, match="refused with --strict: a constant of about"):
        ingest(path, tmp_path / "v.zarr", counts=3 * BEAM, strict=True, **options)


def test_counts_that_are_kept_as_they_are_have_no_constant_to_take_off(tmp_path, caplog):
    """The constant of counts is their beam, and their specimen is negative."""
    path, _ = slab_of_counts(tmp_path)
    options = {"angles": ANGLES, "thickness": 20}
    ingest(path, tmp_path / "t.zarr", counts="none", strict=True, **options)
    assert not caplog.records
    path, _ = slab_of_counts(tmp_path, beam=BEAM * DOSE**0.3, name="risen.npy")
    ingest(path, tmp_path / "u.zarr", **options | {"polarity": "bright"})
    (line,) = (r.getMessage() for r in caplog.records if "a constant of about" in r.getMessage())
    assert "--dark" not in line
    assert "the mark of counts" in line


def test_pixels_without_a_count_are_those_that_are_used(tmp_path):
    """Only pixels count that are stored, measured, and not imputed."""
    _, lines = slab_of_counts(tmp_path)
    values = np.round(BEAM * np.exp(-lines)).astype(np.float32) + 100
    values[:, 10, 10:14] = 100  # four in a row, so no hot pixels; at the dark level
    values[3, 2, 3:8] = 90  # not stored: row 2
    values[4, 20, 40:44] = 100  # not stored: column 40
    values[5, 20, 20:24] = np.nan
    values[6] = 100  # a view that is left out
    dark = np.full((40, 48), 100.0, np.float32)
    dark[30, 5:9] = 20000  # dead by the fields
    flat = np.full((40, 48), BEAM + 100, np.float32)
    flat[31, 5:9] = 0
    values[:, 30:32, 5:9] = 100
    np.save(tmp_path / "s.npy", values)
    np.save(tmp_path / "dark.npy", dark)
    np.save(tmp_path / "flat.npy", flat)
    options = {"dark": tmp_path / "dark.npy", "flat": tmp_path / "flat.npy", "exclude": [7]}
    options |= {"angles": ANGLES, "rows": slice(4, 40), "columns": slice(0, 36)}
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", **options)
    assert [view.floored for view in series.meta.provenance.views] == [4] * 24
    value, origin = facts(series)["pixels without a count"]
    assert value == "96, in what is stored"
    assert "half a quantum" in origin
    options |= {"bin": 2, "rows": slice(2, 20), "columns": slice(0, 18)}
    binned = ingest(tmp_path / "s.npy", tmp_path / "b.zarr", **options)
    assert facts(binned)["pixels without a count"] == (
        "96, in what is stored",
        "of the source, 2 x 2 of which are added before the logarithm",
    )


def mdoc_with(folder, **entries):
    """An mdoc whose sections have these entries, one value for each view."""
    sections = "".join(
        f"[ZValue = {z}]\nTiltAngle = {angle}\n"
        + "".join(f"{key} = {values[z]}\n" for key, values in entries.items())
        + "\n"
        for z, angle in enumerate(ANGLES)
    )
    text = f"ImageFile = ts.mrc\n\n[T = Tilt axis angle = 0.0, binning = 1]\n\n{sections}"
    (folder / "ts.mrc.mdoc").write_text(text)


DOSE = 1 / np.cos(np.deg2rad(ANGLES))


@pytest.mark.parametrize(
    "entries",
    [
        {"ExposureDose": DOSE},
        {"ExposureTime": DOSE},
        {"ExposureDose": 0 * DOSE, "ExposureTime": DOSE},  # as where no dose was calibrated
    ],
)
def test_a_dose_that_rises_with_the_tilt_is_taken_from_the_mdoc(tmp_path, caplog, entries):
    values, lines = slab_of_counts(tmp_path, beam=BEAM * DOSE)
    with mrcfile.new(tmp_path / "ts.mrc") as mrc:
        mrc.set_data(np.load(values))
    mdoc_with(tmp_path, **entries)
    series = ingest(tmp_path / "ts.mrc", tmp_path / "t.zarr")
    assert apart(series, lines) < 0.08
    assert not any("same dose" in r.getMessage() for r in caplog.records)


def test_a_dose_that_one_view_lacks_is_not_given_up_for_equal_times(tmp_path, caplog):
    values, lines = slab_of_counts(tmp_path, beam=BEAM * DOSE)
    with mrcfile.new(tmp_path / "ts.mrc") as mrc:
        mrc.set_data(np.load(values))
    doses = DOSE.copy()
    doses[12] = 0
    mdoc_with(tmp_path, ExposureDose=doses, ExposureTime=np.ones_like(DOSE))
    series = ingest(tmp_path / "ts.mrc", tmp_path / "t.zarr")
    assert apart(series, lines) < 0.08
    (line,) = (r.getMessage() for r in caplog.records if "no dose of" in r.getMessage())
    assert "views 13; for the beam it is taken from those of other views by the angle" in line


def test_doses_that_no_file_states_are_warned_of(tmp_path, caplog):
    """A dose that rises by a tenth makes line integrals too small by 0.1 to 0.2."""
    options = {"angles": ANGLES, "thickness": 20, "counts": "auto"}
    rises = 1 + 0.1 * (DOSE - 1)  # 1.1 at 60 degrees
    path, lines = slab_of_counts(tmp_path, beam=BEAM * rises)
    series = ingest(path, tmp_path / "t.zarr", **options)
    (line,) = (r.getMessage() for r in caplog.records if "same dose" in r.getMessage())
    assert "--counts FILE" in line
    low = (lines - series.read(ALL)).mean(axis=(1, 2))
    assert 0.05 < low[12] < 0.15
    assert 0.1 < low[0] < 0.25
    caplog.clear()
    (tmp_path / "beam.txt").write_text("".join(f"{BEAM * dose}\n" for dose in rises))
    series = ingest(path, tmp_path / "u.zarr", **options | {"counts": tmp_path / "beam.txt"})
    assert apart(series, lines) < 0.06
    assert not caplog.records


def test_a_dose_that_hides_the_fall_is_suspected_where_a_constant_is_found(tmp_path, caplog):
    path, _ = slab_of_counts(tmp_path, beam=BEAM * DOSE**0.8)
    ingest(path, tmp_path / "t.zarr", angles=ANGLES, thickness=20)
    (line,) = (r.getMessage() for r in caplog.records)
    assert "a constant of about" in line
    assert "--counts, if these are counts of a dose that rose with the tilt" in line
    caplog.clear()
    ingest(path, tmp_path / "u.zarr", angles=ANGLES, thickness=20, counts="none")
    assert not any("of a dose" in r.getMessage() for r in caplog.records)


def test_a_view_with_less_dose_keeps_the_level_of_its_vacuum(tmp_path, caplog):
    r = np.random.default_rng(0)
    lines = 0.6 / np.cos(np.deg2rad(ANGLES))[:, None, None] * np.ones((1, 40, 48))
    lines[:, :, :12] = 0
    beam = np.full(len(ANGLES), BEAM)
    beam[7] *= 0.4
    np.save(tmp_path / "s.npy", r.poisson(beam[:, None, None] * np.exp(-lines)).astype(np.int16))
    options = {"angles": ANGLES, "thickness": 20, "counts": "auto"}
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", **options)
    assert np.abs((series.read(ALL) - lines).mean(axis=(1, 2))).max() < 0.02
    value, origin = facts(series)["beam of views 8"]
    assert abs(float(value.split()[0]) - 0.4) < 0.01
    assert origin == "the vacuum of each"
    assert "of the others is used" not in caplog.text


@pytest.mark.parametrize("rise", [0.0, 0.3])
def test_a_dose_that_rises_beside_a_vacuum_is_taken_and_told(tmp_path, caplog, rise):
    r = np.random.default_rng(0)
    path = 1 / np.cos(np.deg2rad(ANGLES))[:, None, None]
    lines = 0.7 * path * np.ones((1, 40, 96))
    lines[..., :20], lines[..., -28:] = 0, 0
    beam = 3000 * path**rise
    np.save(tmp_path / "s.npy", r.poisson(beam * np.exp(-lines)).astype(np.uint16))
    options = {"angles": ANGLES, "thickness": 9, "counts": "auto"}
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", **options)
    assert np.abs((series.read(ALL) - lines).mean(axis=(1, 2))).max() < 0.02
    told = [r.getMessage() for r in caplog.records if "level of the vacuum rises" in r.getMessage()]
    assert len(told) == (rise > 0)
