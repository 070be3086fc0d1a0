"""The array of a dark or flat field among others: frames, masks, and images by an image key."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ddgm_dist.acquisition.reference_files import read_reference
from ddgm_dist.errors import InputError
from tests.acquisition.test_reference_files import CONTAINERS, IMAGE, SIZE, STACK, h5, npz

MASK = (IMAGE > 100).astype(np.uint32) * 4


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    "beside", [{"mask": MASK}, {"a": MASK}, {"std": IMAGE}, {"picture": IMAGE}]
)
def test_a_stack_of_frames_counts_before_single_images(tmp_path, container, beside):
    path = container(tmp_path, frames=STACK + 7, **beside)
    for argument in ("dark", "flat"):
        np.testing.assert_array_equal(read_reference(path, SIZE, argument).value, IMAGE + 7)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_single_image_counts_before_masks(tmp_path, container):
    path = container(tmp_path, a=IMAGE, b=MASK, bad_pixels=MASK, error=IMAGE)
    np.testing.assert_array_equal(read_reference(path, SIZE, "dark").value, IMAGE)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("only", [{"image": MASK}, {"std": IMAGE}, {"pixel_mask": IMAGE}])
def test_a_mask_is_no_field_by_its_size_alone(tmp_path, container, only):
    with pytest.raises(InputError, match=r"a mask or a measure of the noise.*name it 'dark'"):
        read_reference(container(tmp_path, **only), SIZE, "dark")


@pytest.mark.parametrize("container", CONTAINERS)
def test_several_stacks_beside_an_image_are_named(tmp_path, container):
    path = container(tmp_path, one=STACK, two=STACK, image=IMAGE)
    with pytest.raises(InputError, match=r"3 arrays that may be meant: .*one, .*two, .*image"):
        read_reference(path, SIZE, "flat")


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("beside", [{}, {"stuff": IMAGE}, {"stuff": STACK}])
def test_beside_a_field_of_the_other_kind_the_name_is_needed(tmp_path, container, beside):
    with pytest.raises(InputError, match="dark, and nothing by the name of a flat field"):
        read_reference(container(tmp_path, dark=STACK, **beside), SIZE, "flat")


@pytest.mark.parametrize("container", CONTAINERS)
def test_projections_with_their_angles_are_no_field(tmp_path, container):
    path = container(tmp_path, data=STACK, theta=np.array([0.0, 3.0]))
    with pytest.raises(InputError, match=r"data with their angles, and nothing by the name of a"):
        read_reference(path, SIZE, "dark")
    still = container(tmp_path, data=STACK, theta=np.zeros(2))
    np.testing.assert_array_equal(read_reference(still, SIZE, "dark").value, IMAGE)


@pytest.mark.parametrize("container", CONTAINERS)
def test_frames_before_the_scan_are_known_by_their_name(tmp_path, container):
    path = container(tmp_path, dark_pre=STACK, flat_pre=STACK + 9, data=np.ones((5, *SIZE)))
    np.testing.assert_array_equal(read_reference(path, SIZE, "dark").value, IMAGE)
    np.testing.assert_array_equal(read_reference(path, SIZE, "flat").value, IMAGE + 9)


def test_corrections_that_a_detector_keeps_are_no_fields(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["entry/data/data"] = STACK
        for name in ("flatfield", "pixel_mask"):
            file[f"entry/instrument/detector/detectorSpecific/{name}"] = IMAGE + 50
    for argument in ("dark", "flat"):
        value = read_reference(tmp_path / "f.h5", SIZE, argument).value
        np.testing.assert_array_equal(value, IMAGE)


def nxtomo(path, keys, images):
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["definition"] = "NXtomo"
        entry["instrument/detector/data"] = images
        entry["instrument/detector/image_key"] = keys
        entry["sample/rotation_angle"] = np.zeros(len(keys))
    return path


def test_an_image_key_says_which_frames_they_are(tmp_path):
    images = np.concatenate([STACK, STACK + 90, STACK + 500])
    path = nxtomo(tmp_path / "f.nxs", [2, 2, 0, 0, 1, 1], images)
    np.testing.assert_array_equal(read_reference(path, SIZE, "dark").value, IMAGE)
    np.testing.assert_array_equal(read_reference(path, SIZE, "flat").value, IMAGE + 500)


def test_a_file_of_darks_only(tmp_path):
    path = nxtomo(tmp_path / "f.nxs", [2, 2], STACK)
    np.testing.assert_array_equal(read_reference(path, SIZE, "dark").value, IMAGE)
    with pytest.raises(InputError, match=r"flat = .*holds no flat frames by its image key"):
        read_reference(path, SIZE, "flat")


def test_a_named_field_beside_an_image_key_counts(tmp_path):
    path = nxtomo(tmp_path / "f.nxs", [0, 0], STACK)
    with h5py.File(path, "a") as file:
        file["entry/instrument/dark_field/data"] = STACK + 4
    np.testing.assert_array_equal(read_reference(path, SIZE, "dark").value, IMAGE + 4)
    with pytest.raises(InputError, match="no flat frames by its image key"):
        read_reference(path, SIZE, "flat")


def test_keys_that_do_not_fit_or_lie_in_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"dark = .*has 3 entries"):
        read_reference(nxtomo(tmp_path / "a.nxs", [2, 2, 2], STACK), SIZE, "dark")
    with pytest.raises(InputError, match="an image key, image_key, which is read in HDF5"):
        read_reference(npz(tmp_path, data=STACK, image_key=np.array([2, 0])), SIZE, "dark")
    path = h5(tmp_path, data=STACK, image_key=np.array([0, 2]))
    np.testing.assert_array_equal(read_reference(path, SIZE, "dark").value, STACK[1])
