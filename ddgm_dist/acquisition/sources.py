"""Open a source of projections by what it is, with what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ddgm_dist.acquisition.companions import (
    STACK_SUFFIXES,
    companions_within,
    find_companions,
    stack_of_folder,
    without_order,
)
from ddgm_dist.acquisition.mdoc_images import described_images, described_stack, stack_of_mdoc
from ddgm_dist.acquisition.source import FRAMES, Source
from ddgm_dist.acquisition.upright import FromBottom
from ddgm_dist.core.box import Triple
from ddgm_dist.errors import InputError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.place import Place
from ddgm_dist.readers.arrays.numpy_files import open_npy, open_npz
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.images.names import angles_in_names
from ddgm_dist.readers.images.stack import ImageStack, open_image_files, open_images, open_tiff
from ddgm_dist.readers.mrc.extended import extended_angles
from ddgm_dist.readers.mrc.header import read_header
from ddgm_dist.readers.mrc.labels import axis_in_labels
from ddgm_dist.readers.mrc.volume import open_mrc
from ddgm_dist.readers.serialem.mdoc import read_mdoc
from ddgm_dist.readers.stacks.tilt_stack import TiltStack

__all__ = ["open_source"]


_HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".he5")
_TIFF = (".tif", ".tiff")
# Pieces of more rows than this are decoded again for each block of rows.
_FEW_ROWS = 64


def open_source(place: Place, dataset: str | None = None, *, angles: bool = True) -> Source:
    """Open a source.

    Parameters
    ----------
    place
        An MRC, HDF5, TIFF, NumPy or mdoc file; a folder of images, or one that etomo works in; or a
        Zarr array or group, also in an object store.
    dataset
        Which array, where the source holds several.
    angles
        The source's own angles are wanted; false where they are given.

    Raises
    ------
    InputError
        It does not exist, is no such file, or cannot be read.
    """
    if is_zarr(place):
        return _zarr(place, dataset, angles=angles)
    if not isinstance(place, Path):
        raise InputError(
            "source", str(place), "is in an object store, where only Zarr is read", "copy it here"
        )
    if not place.exists():
        raise InputError("source", str(place), "does not exist")
    if place.is_dir():
        stack = stack_of_folder(place)
        found = _mrc(stack) if stack else _images(place)
    else:
        found = _by_suffix(place, dataset, angles=angles)
    if dataset is not None and found.kind not in ("HDF5", "NumPy archive", "Zarr"):
        raise InputError(
            "dataset", dataset, f"names an array, but {place} ({found.kind}) holds only one"
        )
    return found


def _by_suffix(path: Path, dataset: str | None, *, angles: bool) -> Source:
    suffix = path.suffix.lower() or path.resolve().suffix.lower()
    if suffix == ".npz":
        return _npz(path, dataset)
    if suffix in _HDF5:
        return _hdf5(path, dataset, angles=angles)
    readers: dict[str, Callable[[Path], Source]] = {".npy": _npy, ".mdoc": _mdoc}
    readers |= dict.fromkeys(_TIFF, _tiff) | dict.fromkeys(STACK_SUFFIXES, _mrc)
    if suffix not in readers:
        raise InputError(
            "source",
            str(path),
            "is no MRC, TIFF, HDF5, NumPy or mdoc file by its name, nor a folder or a Zarr store",
            "rename it by its format: .mrc, .st, .tif, .h5, .nxs, .npy, .npz or .mdoc",
        )
    return readers[suffix](path)


def _mrc(path: Path) -> Source:
    stack = open_mrc(path, tilt_series=True)
    header = read_header(path, path.stat().st_size)
    angles = extended_angles(path, header)
    axis = axis_in_labels(path)
    source = Source(
        str(path),
        stack,
        "MRC",
        angles_deg=angles,
        angles_from=f"extended header of {path.name}",
        pixel_size_nm=stack.pixel_size_nm,
        pixel_from=f"header of {path.name}",
        axis_deg=axis,
        axis_from=f"labels of {path.name}",
        files=(path,),
    )
    return _with_companions(source, path)


def _mdoc(path: Path) -> Source:
    """A stack, or frames, that SerialEM describes."""
    mdoc = read_mdoc(path)
    stack_file = described_stack(path, mdoc)
    if stack_file is not None:
        found = _mrc(stack_file)
        if found.companions is None or found.companions.mdoc != path:
            return replace(found, mdoc=mdoc)
        return found
    files = described_images(path, mdoc)
    stack = open_image_files(files)
    angles = [section.tilt_deg for section in mdoc.sections]
    known = [a for a in angles if a is not None]
    return Source(
        str(path),
        _upright(stack),
        FRAMES,
        by_view=True,
        angles_deg=tuple(known) if len(known) == len(angles) else None,
        angles_from=path.name,
        pixel_size_nm=mdoc.pixel_size_nm,
        pixel_from=path.name,
        mdoc=mdoc,
        companions=without_order(find_companions(stack_of_mdoc(path))),
        files=(path, *files),
        images=tuple(files),
    )


def _images(folder: Path) -> Source:
    stack = open_images(folder)
    return Source(
        str(folder),
        _upright(stack),
        "folder of images",
        by_view=True,
        angles_deg=angles_in_names(stack.files),
        angles_from="names of the images",
        companions=companions_within(folder),
        files=tuple(stack.files),
        images=tuple(stack.files),
    )


def _upright(stack: ImageStack) -> VolumeSource:
    """The images with their lowest row first, as in an MRC file."""
    return FromBottom(stack) if stack.from_top else stack


def _tiff(path: Path) -> Source:
    return _with_companions(
        Source(str(path), _upright(open_tiff(path)), "TIFF", by_view=True, files=(path,)), path
    )


def _npy(path: Path) -> Source:
    return _with_companions(Source(str(path), open_npy(path), "NumPy array", files=(path,)), path)


def _with_companions(source: Source, path: Path) -> Source:
    """The source with the files beside it; those beside the target of a link are only named."""
    companions = find_companions(path)
    if path.is_symlink():
        mine = {file.resolve() for file in companions.files}
        there = find_companions(path.resolve())
        other = [file for file in there.files if file.resolve() not in mine]
        why = "it lies beside the target of the link, and files beside the link count"
        source = replace(
            source,
            unused=(*source.unused, *((str(file), why) for file in other)),
            beyond=tuple(file for file in (there.xf, there.aln) if file in other),
        )
    mdoc = None if companions.mdoc is None else read_mdoc(companions.mdoc)
    return replace(source, companions=companions, mdoc=mdoc)


def _beside(path: Path) -> tuple[tuple[str, str], ...]:
    """Files that would align a stack of this name, and why they do not."""
    found = find_companions(path)
    why = "it is read beside MRC, TIFF and .npy stacks only: see --xf and --angles"
    return tuple((file.name, why) for file in found.files if file.stem.startswith(path.stem))


def _npz(path: Path, dataset: str | None) -> Source:
    npz = open_npz(path, dataset)
    return Source(
        str(path),
        npz.stack,
        "NumPy archive",
        angles_deg=npz.angles_deg,
        angles_from=path.name,
        pixel_size_nm=npz.pixel_size_nm,
        pixel_from=path.name,
        thickness_px=npz.thickness_px,
        shifts_px=npz.shifts_px,
        dark_level=npz.dark_level,
        files=(path,),
        unused=(
            *((f"{path.name}[{name}]", "not the array that was chosen") for name in npz.others),
            *_beside(path),
        ),
    )


def _hdf5(path: Path, dataset: str | None, *, angles: bool) -> Source:
    from ddgm_dist.readers.hdf5.stack import open_hdf5  # h5py is loaded only where it is needed

    return _container(path, "HDF5", open_hdf5(path, dataset, angles=angles))


def _zarr(place: Place, dataset: str | None, *, angles: bool) -> Source:
    from ddgm_dist.readers.zarr.stack import open_zarr_stack

    return _container(place, "Zarr", open_zarr_stack(place, dataset, angles=angles))


def _container(place: Place, kind: str, found: TiltStack) -> Source:
    """A source from what a file or a store says of it."""
    origins = {name: f"{place.name}:{where}" for name, where in found.origins.items()}
    return Source(
        str(place),
        found.stack,
        kind,
        by_view=_is_by_view(found.stack),
        angles_deg=found.angles_deg,
        angles_from=origins.get("angles_deg", ""),
        pixel_size_nm=found.pixel_size_nm,
        pixel_from=origins.get("pixel_size_nm", ""),
        dark=found.darks,
        flat=found.flats,
        files=(place,) if isinstance(place, Path) else (),
        notes=found.notes,
        unused=_beside(place) if isinstance(place, Path) else (),
    )


def _is_by_view(stack: VolumeSource) -> bool:
    """Return whether rows of all views cost about as much as the views do, by the stored pieces."""
    chunk: Triple | None = getattr(stack, "chunk", None)
    return chunk is not None and chunk[1] > _FEW_ROWS and 4 * chunk[0] < stack.shape[0]
