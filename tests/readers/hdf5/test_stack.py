"""Tilt series in HDF5 come with their own projections, flats, darks and angles, or with an error."""

import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.hdf5.stack import open_hdf5
from tests.readers.hdf5.files import (
    ANGLES,
    DARKS,
    FLATS,
    KEY,
    PROJECTIONS,
    aps,
    diamond,
    esrf,
    group,
    in_one_array,
)


def whole(source):
    return source.read(Box((0, 0, 0), source.shape))


def refused(says, path, dataset=None, **options):
    with pytest.raises(InputError, match=says) as error:
        open_hdf5(path, dataset, **options)
    return str(error.value)


@pytest.mark.parametrize("layout", [diamond, esrf, aps])
def test_layouts_of_beamlines_give_the_same_series(tmp_path, layout):
    found = open_hdf5(layout(tmp_path / "scan.nxs"))
    for source, stored in (
        (found.stack, PROJECTIONS),
        (found.flats, FLATS),
        (found.darks, DARKS),
    ):
        assert isinstance(source, VolumeSource)
        assert source.dtype == np.uint16
        np.testing.assert_array_equal(whole(source), stored)
        part = Box((1, 1, 2), (stored.shape[0], 3, 6))
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again.read(part), stored[part.slices()])
        with pytest.raises(IndexError):
            source.read(Box((0, 0, 0), (stored.shape[0] + 1, 4, 6)))
    np.testing.assert_allclose(found.angles_deg, ANGLES)


def test_each_thing_says_where_it_comes_from(tmp_path):
    found = open_hdf5(esrf(tmp_path / "scan.nx"))
    detector = "/entry0000/instrument/detector"
    assert found.origins["stack"] == f"{detector}/data, 7 of 12 images"
    assert found.origins["flats"] == f"{detector}/data, 3 of 12 images"
    assert found.origins["angles_deg"].startswith("/entry0000/sample/rotation_angle, by the unit")
    assert found.origins["pixel_size_nm"] == f"{detector}/x_pixel_size"
    assert found.pixel_size_nm == pytest.approx(6500)
    assert any("7 projections, 3 flats, 2 darks" in note for note in found.notes)
    assert any("x_translation = 12 values: not used" in note for note in found.notes)
    aps_found = open_hdf5(aps(tmp_path / "aps.h5"))
    assert aps_found.pixel_size_nm == pytest.approx(1300)
    assert "angles_deg" in aps_found.origins


def test_images_for_alignment_are_no_projections(tmp_path):
    """The plain key calls them projections; only image_key_control tells them apart."""
    key = KEY.copy()
    key[3] = -1
    found = open_hdf5(esrf(tmp_path / "scan.nx", key=key))
    np.testing.assert_array_equal(whole(found.stack), PROJECTIONS[1:])
    np.testing.assert_allclose(found.angles_deg, ANGLES[1:])
    assert any("1 alignment images" in note for note in found.notes)
    assert any("image_key differs" in note for note in found.notes)


def test_several_entries_must_be_chosen_from(tmp_path):
    path = esrf(tmp_path / "scan.nx", entries=("entry0000", "entry0001"))
    message = refused("2 datasets that may be the projections", path)
    chosen = "/entry0001/instrument/detector/data"
    assert chosen in message
    assert "--dataset" in message
    found = open_hdf5(path, chosen)
    assert found.origins["angles_deg"].startswith("/entry0001/sample")
    assert any("/entry0000/data/data (12, 4, 6): not used" in note for note in found.notes)


def test_angles_of_another_entry_are_never_taken(tmp_path):
    path = esrf(tmp_path / "scan.nx", entries=("entry0000", "entry0001"))
    with h5py.File(path, "a") as file:
        del file["entry0001/sample/rotation_angle"]
    found = open_hdf5(path, "/entry0001/instrument/detector/data")
    assert found.angles_deg is None
    assert any("no angles" in note for note in found.notes)


def test_a_dataset_can_be_named(tmp_path):
    path = aps(tmp_path / "a.h5", data2=PROJECTIONS[:, ::-1], data_white=None)
    found = open_hdf5(path, "exchange/data2")
    np.testing.assert_array_equal(whole(found.stack), PROJECTIONS[:, ::-1])
    np.testing.assert_array_equal(whole(found.darks), DARKS)
    assert found.flats is None
    assert any("no flats" in note for note in found.notes)
    assert any("/exchange/data (7, 4, 6): not used" in note for note in found.notes)
    refused("is not there", path, "exchange/nothing")
    refused("is a group", path, "exchange")
    refused("three axes; it is", path, "exchange/theta")


def test_axes_are_permuted_where_attributes_say_so(tmp_path):
    arrays = {
        "data": PROJECTIONS.transpose(1, 0, 2),
        "data_white": FLATS.transpose(1, 0, 2),
        "data_dark": DARKS.transpose(1, 0, 2),
    }
    found = open_hdf5(aps(tmp_path / "sino.h5", axes="y:theta:x", **arrays))
    for source, stored in ((found.stack, PROJECTIONS), (found.flats, FLATS), (found.darks, DARKS)):
        np.testing.assert_array_equal(whole(source), stored)
        part = Box((1, 1, 2), (2, 3, 5))
        np.testing.assert_array_equal(source.read(part), stored[part.slices()])
    assert any("axes (1, 0, 2)" in note for note in found.notes)
    message = refused("7 angles", aps(tmp_path / "none.h5", axes=None, **arrays))
    assert "fit another axis" in message
    refused("two of them may count the rows", aps(tmp_path / "twice.h5", axes="theta:y:y"))


def test_axes_of_nexus_plots_and_dimension_labels_count(tmp_path):
    turned = PROJECTIONS.transpose(2, 1, 0)
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        group(file, "entry", "NXentry")
        shown = group(file, "entry/data", "NXdata")
        shown.attrs["signal"] = "counts"
        shown.attrs["axes"] = ["detector_x", "detector_y", "rotation_angle"]
        shown["counts"] = turned
        shown["rotation_angle"] = ANGLES
    np.testing.assert_array_equal(whole(open_hdf5(tmp_path / "a.nxs").stack), PROJECTIONS)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["images"] = turned
        for dimension, label in zip(file["images"].dims, ("x", "y", "tilt"), strict=True):
            dimension.label = label
    np.testing.assert_array_equal(whole(open_hdf5(tmp_path / "b.h5").stack), PROJECTIONS)


@pytest.mark.parametrize("length", [6, 8, 13])
def test_too_few_or_too_many_angles_are_counted(tmp_path, length):
    angles = np.linspace(-60, 60, length)
    message = refused(f"holds {length} angles", aps(tmp_path / "a.h5", angles=angles))
    assert "/exchange/theta" in message
    assert "7 images" in message
    message = refused(f"holds {length} angles", diamond(tmp_path / "d.nxs", angles))
    assert "12 images, of which 7 are projections" in message
    # Who gives other angles is not kept from it.
    assert open_hdf5(tmp_path / "d.nxs", angles=False).angles_deg is None


def test_angles_of_the_projections_alone_are_taken_as_such(tmp_path):
    found = open_hdf5(diamond(tmp_path / "d.nxs", ANGLES, units="deg"))
    np.testing.assert_allclose(found.angles_deg, ANGLES)
    assert any("one angle per projection" in note for note in found.notes)


def test_angles_may_be_a_column(tmp_path):
    found = open_hdf5(aps(tmp_path / "a.h5", angles=ANGLES[:, None]))
    np.testing.assert_allclose(found.angles_deg, ANGLES)


def test_angles_of_flats_may_be_unknown(tmp_path):
    _, angles = in_one_array()
    angles[KEY != 0] = np.nan
    found = open_hdf5(diamond(tmp_path / "d.nxs", angles, units="deg"))
    np.testing.assert_allclose(found.angles_deg, ANGLES)
    angles[4] = np.nan
    refused("1 of 7 angles are not finite", diamond(tmp_path / "e.nxs", angles, units="deg"))


def test_radians_by_attribute_and_by_range(tmp_path):
    for units in ("rad", "radians", None):
        path = aps(tmp_path / "a.h5", angles=np.radians(ANGLES), units=units)
        found = open_hdf5(path)
        np.testing.assert_allclose(found.angles_deg, ANGLES)
    assert "radians by their range" in found.origins["angles_deg"]
    refused("may be degrees or radians", aps(tmp_path / "b.h5", angles=np.arange(7), units=None))


def test_a_key_must_fit_the_images(tmp_path):
    message = refused("has 11 entries", diamond(tmp_path / "a.nxs", key=KEY[:-1]))
    assert "12 images" in message
    assert "image_key" in message
    refused("holds 7; known are", diamond(tmp_path / "b.nxs", key=np.where(KEY == 0, 7, KEY)))
    refused("names no projection", diamond(tmp_path / "c.nxs", key=np.ones_like(KEY)))


def test_flats_must_fit_the_projections(tmp_path):
    refused(r"images of \(4, 5\) pixels", aps(tmp_path / "a.h5", data_white=FLATS[:, :, 1:]))
    found = open_hdf5(aps(tmp_path / "b.h5", data_white=FLATS[0], axes=None))
    np.testing.assert_array_equal(whole(found.flats), FLATS[:1])


def test_pixel_sizes_need_a_unit_and_square_pixels(tmp_path):
    path = esrf(tmp_path / "a.nx")
    with h5py.File(path, "a") as file:
        detector = file["entry0000/instrument/detector"]
        detector["x_pixel_size"][()] = 9e-6
    refused("pixels are not square", path)
    with h5py.File(path, "a") as file:
        for axis in "xy":
            del file[f"entry0000/instrument/detector/{axis}_pixel_size"].attrs["units"]
    found = open_hdf5(path)
    assert found.pixel_size_nm is None
    assert any("x_pixel_size = 9e-06 names no unit: not used" in note for note in found.notes)
    with h5py.File(path, "a") as file:
        for axis in "xy":
            file[f"entry0000/sample/{axis}_pixel_size"] = 0.65
            file[f"entry0000/sample/{axis}_pixel_size"].attrs["units"] = "µm"
    assert open_hdf5(path).pixel_size_nm == pytest.approx(650)


def test_the_size_of_the_cameras_pixels_is_not_that_at_the_specimen(tmp_path):
    path = aps(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        detector = file["measurement/instrument/detector"]
        for axis in "xy":
            del detector[f"actual_pixel_size_{axis}"]
            detector[f"pixel_size_{axis}"] = 6.7
            detector[f"pixel_size_{axis}"].attrs["units"] = "micron"
    found = open_hdf5(path)
    assert found.pixel_size_nm is None
    assert any("is that of the camera" in note for note in found.notes)


def test_older_files_have_a_detector_for_each_kind_of_image(tmp_path):
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        group(file, "entry", "NXentry")["definition"] = "NXtomo"
        for name, images in (
            ("sample", PROJECTIONS),
            ("bright_field", FLATS),
            ("dark_field", DARKS),
        ):
            group(file, f"entry/instrument/{name}", "NXdetector")["data"] = images
        file["entry/sample/rotation_angle"] = ANGLES
    found = open_hdf5(tmp_path / "a.nxs")
    for source, stored in ((found.stack, PROJECTIONS), (found.flats, FLATS), (found.darks, DARKS)):
        np.testing.assert_array_equal(whole(source), stored)


def test_files_without_classes_are_searched_by_name(tmp_path):
    images, angles = in_one_array()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry1/tomo_entry/data/data"] = images
        file["entry1/tomo_entry/data/rotation_angle"] = angles
        file["entry1/tomo_entry/data/image_key"] = KEY
    found = open_hdf5(tmp_path / "a.h5")
    np.testing.assert_array_equal(whole(found.stack), PROJECTIONS)
    np.testing.assert_allclose(found.angles_deg, ANGLES)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["scan1/images"] = PROJECTIONS
        file["scan2/images"] = PROJECTIONS
        file["scan2/theta"] = ANGLES
    refused("/scan1/images", tmp_path / "b.h5")
    assert open_hdf5(tmp_path / "b.h5", "scan1/images").angles_deg is None
    assert open_hdf5(tmp_path / "b.h5", "scan2/images").angles_deg is not None


def test_what_holds_no_stack_says_what_it_holds(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["table"] = np.zeros((4, 5))
    assert "/table (4, 5)" in refused("no dataset of three axes", tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["wave"] = PROJECTIONS + 1j
    refused("must be real numbers", tmp_path / "b.h5", "wave")


def test_any_number_and_byte_order_is_read(tmp_path):
    for dtype in (">u2", ">f4", "<f8", "i1", "f2", ">i4"):
        data = (PROJECTIONS % 100).astype(dtype)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["data"] = data
        np.testing.assert_array_equal(whole(open_hdf5(tmp_path / "a.h5").stack), data)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = np.where(PROJECTIONS[3, 2, 1] == PROJECTIONS, 4e40, 0)
    with pytest.raises(InputError, match=r"4e\+40 at \(3, 2, 1\)"):
        whole(open_hdf5(tmp_path / "b.h5").stack)


def test_measured_data_open_with_all_that_belongs_to_them(shared_data):
    path = shared_data / "xray_tilt/tooth.h5"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    found = open_hdf5(path)
    assert found.stack.shape == (181, 2, 640)
    assert found.flats is not None
    assert found.darks is not None
    assert found.flats.shape == found.darks.shape == (10, 2, 640)
    assert found.angles_deg is not None
    np.testing.assert_allclose(found.angles_deg, np.arange(181) * 180 / 181)
    dark, flat = (whole(part).mean() for part in (found.darks, found.flats))
    assert dark < whole(found.stack).mean() < flat


def test_the_package_is_imported_without_h5py():
    code = "import sys, ddgm_dist, ddgm_dist.readers.hdf5.stack; sys.exit('h5py' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
