"""Where a point of the specimen is seen, whatever was binned, cropped, moved or mirrored."""

import numpy as np
import pytest

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import angles_file, stack, tilt_command, unused, xf_file

SHAPE = (7, 101, 131)
ANGLES = (-60.0, -35.0, -10.0, 0.0, 20.0, 45.0, 60.0)
POINT = (14.0, 9.0, -6.0)  # x, y, z from the axis and the middle row, pixels of the source


def seen(angle, point=POINT):
    x, y, z = point
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return x * cos + z * sin, y


def spots(folder, transforms, angles=ANGLES, shape=SHAPE, axis=0.0):
    """A stack with one blurred spot per view, where the transforms bring it to its place.

    ``axis`` is the column of the axis in the aligned images, from their middle.
    """
    path, _ = stack(folder, shape=shape)
    rows, columns = np.mgrid[: shape[1], : shape[2]].astype(float)
    rows, columns = rows - (shape[1] - 1) / 2, columns - (shape[2] - 1) / 2
    images = np.empty(shape, np.float32)
    for image, angle, t in zip(images, angles, transforms, strict=True):
        a = np.array([[t[0], t[1]], [t[2], t[3]]])
        u, y = seen(angle)
        x0, y0 = np.linalg.solve(a, np.array([u + axis, y]) - np.array(t[4:]))
        image[:] = np.exp(-((columns - x0) ** 2 + (rows - y0) ** 2) / (2 * 3.0**2))
    np.save(folder / "ts.npy", images)
    path.unlink()
    return folder / "ts.npy"


def position(series, factor=1):
    """The point as the store shows it, fitted to all views; and how far views are from it, pixels."""
    data = np.nan_to_num(series.read(slice(None)).astype(np.float64)).clip(0)
    meta, size = series.meta, series.shape[1:]
    shifts = np.array(meta.shifts_px or [(0.0, 0.0)] * len(data))
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    mass = data.sum(axis=(1, 2))
    y = (data * (rows - (size[0] - 1) / 2)).sum(axis=(1, 2)) / mass - shifts[:, 0]
    u = (data * (columns - (size[1] - 1) / 2)).sum(axis=(1, 2)) / mass - shifts[:, 1]
    theta = np.deg2rad(meta.angles_deg)
    basis = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    (x, z), *_ = np.linalg.lstsq(basis, u)
    apart = max(np.abs(basis @ [x, z] - u).max(), np.ptp(y))
    return np.array([x, y.mean(), z]) * factor, apart * factor


def turned(degrees, shifts):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return [(c, s, -s, c, dx, dy) for dx, dy in shifts]


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("degrees", [0.0, 84.0, -96.0, 4.0])
def test_a_point_stays_in_its_place_where_images_are_turned_and_binned(tmp_path, degrees, factor):
    shifts = np.random.default_rng(0).uniform(-5, 5, (7, 2)) if degrees else np.zeros((7, 2))
    transforms = turned(degrees, shifts)
    source = spots(tmp_path, transforms)
    angles_file(tmp_path, angles=ANGLES)
    xf_file(tmp_path, transforms)
    series = ingest(source, tmp_path / "t.zarr", bin=factor, despike=False)
    found, apart = position(series, factor)
    np.testing.assert_allclose(found, POINT, atol=0.05)
    assert apart < 0.05


def test_and_where_they_are_cropped_off_the_middle(tmp_path):
    source = spots(tmp_path, turned(0.0, np.zeros((7, 2))))
    angles_file(tmp_path, angles=ANGLES)
    series = ingest(source, tmp_path / "t.zarr", columns=slice(20, 121), despike=False)
    found, apart = position(series)
    middle = (20 + 120) / 2 - 65
    np.testing.assert_allclose(found, (POINT[0] - middle, POINT[1], POINT[2]), atol=0.05)
    assert apart < 0.05


def test_and_where_newstack_moves_the_images(tmp_path):
    transforms = turned(0.0, np.zeros((7, 2)))
    source = spots(tmp_path, transforms)
    angles_file(tmp_path, angles=ANGLES)
    xf_file(tmp_path, transforms)
    (tmp_path / "newst.com").write_text(
        "$newstack -StandardInput\nInputFile ts.npy\nOutputFile ts_ali.mrc\nTransformFile ts.xf\n"
        "OffsetsInXandY 5,-3\n"
    )
    found, apart = position(ingest(source, tmp_path / "t.zarr", despike=False))
    # The middle of the images lies 5 columns right of the axis, and 3 rows below the middle.
    np.testing.assert_allclose(found, (POINT[0] - 5, POINT[1] + 3, POINT[2]), atol=0.05)
    assert apart < 0.05


@pytest.mark.parametrize("factor", [1, 2])
def test_and_where_views_are_mirrored(tmp_path, factor):
    angles = (0.0, 25.0, 55.0, 100.0, 125.0, 150.0, 180.0)
    source = spots(tmp_path, turned(0.0, np.zeros((7, 2))), angles, axis=4.0)
    angles_file(tmp_path, angles=angles)
    options = {"max_angle": 60, "axis_column": 69.0, "bin": factor, "despike": False}
    series = ingest(source, tmp_path / "t.zarr", **options)
    assert series.shape[0] == 6
    found, apart = position(series, factor)
    np.testing.assert_allclose(found, POINT, atol=0.06)
    assert apart < 0.06


def test_the_axis_of_the_tilt_command_holds_for_mirrored_views_too(tmp_path):
    """IMOD turns the slab about an axis that is 4 columns off, and keeps x at zero tilt."""
    angles = (0.0, 25.0, 55.0, 100.0, 125.0, 150.0, 180.0)
    source = spots(tmp_path, turned(0.0, np.zeros((7, 2))), angles, axis=4.0)
    angles_file(tmp_path, angles=angles)
    tilt_command(tmp_path, "OFFSET 0.0 4.0")
    series = ingest(source, tmp_path / "t.zarr", max_angle=60, despike=False)
    found, apart = position(series)
    np.testing.assert_allclose(found, (POINT[0] + 4, POINT[1], POINT[2]), atol=0.05)
    assert apart < 0.05


def test_views_beyond_the_stored_images_are_left_out(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    far = (1.0, 0.0, 0.0, 1.0, 500.0, 0.0)
    still = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    xf_file(tmp_path, [still] * 6 + [far])
    series = ingest(path, tmp_path / "t.zarr")
    assert [v.view for v in series.meta.provenance.left_out] == [7]
    xf_file(tmp_path, [far] * 7)
    with pytest.raises(InputError, match="no aligned image shows"):
        ingest(path, tmp_path / "u.zarr")


def test_a_column_that_is_given_replaces_what_files_say_of_the_axis(tmp_path):
    path, _ = stack(tmp_path, "ts_ali.mrc")
    angles_file(tmp_path)
    tilt_command(tmp_path, "FULLIMAGE 64 20", "SUBSETSTART 10 0", "OFFSET 0.0 3.0")
    series = ingest(path, tmp_path / "t.zarr", axis_column=14.5)
    assert series.meta.shifts_px == ((0.0, 3.0),) * 7
    assert "--axis-column counts" in unused(series)["the axis by IMOD's command files"]
