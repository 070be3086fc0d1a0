"""Dark and flat fields from files: single images and stacks, in every format."""

from __future__ import annotations

from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import zarr
from skimage import io

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.acquisition.reference_files import read_reference
from ddgm_dist.errors import InputError

SIZE = (12, 16)
IMAGE = np.arange(12 * 16, dtype=np.float32).reshape(SIZE) + 5
OTHER = IMAGE[::-1] + 1000
STACK = np.stack([IMAGE - 1, IMAGE + 1])


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "f.npz", **arrays)
    return path / "f.npz"


def h5(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path / "f.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(f"exchange/{name}", data=array, compression="gzip")
    return path / "f.h5"


def zarr2(path: Path, **arrays: np.ndarray) -> Path:
    return group(path, 2, **arrays)


def zarr3(path: Path, **arrays: np.ndarray) -> Path:
    return group(path, 3, **arrays)


def group(path: Path, version: int, **arrays: np.ndarray) -> Path:
    root = zarr.open_group(path / "f.zarr", mode="w", zarr_format=version)
    for name, array in arrays.items():
        root.create_array(name, data=array)
    return path / "f.zarr"


CONTAINERS = [npz, h5, zarr2, zarr3]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, ">f8"])
def test_a_single_image(tmp_path, container, dtype):
    path = container(tmp_path, picture=IMAGE.astype(dtype), numbers=np.arange(4.0))
    for argument in ("dark", "flat"):
        np.testing.assert_array_equal(read_reference(path, SIZE, argument).value, IMAGE)


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_name_tells_which_is_which(tmp_path, container):
    both = container(tmp_path, flat=OTHER, dark=IMAGE, projections=np.ones((5, *SIZE)))
    np.testing.assert_array_equal(read_reference(both, SIZE, "dark").value, IMAGE)
    np.testing.assert_array_equal(read_reference(both, SIZE, "flat").value, OTHER)


@pytest.mark.parametrize("container", CONTAINERS)
def test_frames_beside_projections_are_averaged(tmp_path, container):
    frames = {"data_dark": STACK, "data_white": STACK + 10, "data": np.ones((5, *SIZE))}
    path = container(tmp_path, **frames)
    np.testing.assert_array_equal(read_reference(path, SIZE, "dark").value, IMAGE)
    np.testing.assert_array_equal(read_reference(path, SIZE, "flat").value, IMAGE + 10)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_stack_alone_is_averaged(tmp_path, container):
    path = container(tmp_path, data=STACK)
    np.testing.assert_array_equal(read_reference(path, SIZE, "flat").value, IMAGE)


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_not_clear_or_does_not_fit_is_refused(tmp_path, container):
    path = container(tmp_path, a=IMAGE, b=OTHER)
    with pytest.raises(InputError, match=r"2 arrays that may be meant: .*a, .*b.*name one of them"):
        read_reference(path, SIZE, "dark")
    path = container(tmp_path, picture=IMAGE[:, :-1])
    with pytest.raises(InputError, match=r"dark = .*\(12, 15\).*\(12, 16\)"):
        read_reference(path, SIZE, "dark")
    for beside in ({}, {"data": STACK}):
        path = container(tmp_path, flat=IMAGE, **beside)
        with pytest.raises(InputError, match=r"flat, and nothing by the name of a dark field"):
            read_reference(path, SIZE, "dark")
    path = container(tmp_path, dark=IMAGE[:-1], data=STACK)
    with pytest.raises(InputError, match=r"\(11, 16\), and the source of \(12, 16\)"):
        read_reference(path, SIZE, "dark")
    path = container(tmp_path, numbers=np.arange(4.0))
    with pytest.raises(InputError, match="dark = "):
        read_reference(path, SIZE, "dark")


def test_a_zarr_array_and_files_of_other_kinds(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE)
    np.save(tmp_path / "a.npy", IMAGE)
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(STACK)
    io.imsave(tmp_path / "a.tif", IMAGE[::-1], check_contrast=False)  # its first row is the top one
    for name in ("a.zarr", "a.npy", "a.mrc", "a.tif"):
        np.testing.assert_array_equal(read_reference(tmp_path / name, SIZE, "dark").value, IMAGE)


@pytest.mark.parametrize("name", ["f.npz", "f.h5", "f.npy"])
@pytest.mark.parametrize("cut", [0, 40, 300])
def test_damaged_files_are_refused_by_the_name_of_the_option(tmp_path, name, cut):
    np.save(tmp_path / "f.npy", IMAGE)
    npz(tmp_path, dark=IMAGE)
    h5(tmp_path, dark=IMAGE)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:cut])
    with pytest.raises(InputError) as refused:
        read_reference(tmp_path / name, SIZE, "dark")
    assert refused.value.argument == "dark"


@pytest.mark.parametrize("container", [npz, h5, zarr3])
def test_an_ingest_takes_them(tmp_path, container):
    r = np.random.default_rng(0)
    lines = r.uniform(0.2, 0.6, (5, *SIZE))
    flat, dark = 1000 + IMAGE, IMAGE / 10
    np.save(tmp_path / "s.npy", (dark + (flat - dark) * np.exp(-lines)).astype(np.float32))
    path = container(tmp_path, dark=dark, flat=flat)
    angles = [-20, -10, 0, 10, 20]
    out = tmp_path / "t.zarr"
    series = ingest(tmp_path / "s.npy", out, angles=angles, dark=path, flat=path, despike=False)
    np.testing.assert_allclose(series.read(slice(None)), lines, atol=1e-4)
    with pytest.raises(InputError, match="no file that exists"):
        ingest(tmp_path / "s.npy", tmp_path / "u.zarr", angles=angles, dark=tmp_path / "none.npy")
