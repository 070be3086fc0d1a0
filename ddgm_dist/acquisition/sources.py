"""Open a source of projections by what it is, with what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ddgm_dist.acquisition.companions import (
    STACK_SUFFIXES,
    Companions,
    find_companions,
    stack_of_folder,
)
from ddgm_dist.acquisition.upright import FromBottom
from ddgm_dist.acquisition.written_names import FolderNames, name_of
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
from ddgm_dist.readers.serialem.mdoc import Mdoc, read_mdoc
from ddgm_dist.readers.stacks.tilt_stack import TiltStack

__all__ = ["FRAMES", "Source", "open_source"]

# Format of single images that an mdoc names.
FRAMES = "images named by an mdoc"

_HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".he5")
_TIFF = (".tif", ".tiff")
# Pieces of more rows than this are decoded again for each block of rows.
_FEW_ROWS = 64


@dataclass(frozen=True)
class Source:
    """Projections, and what their own file says.

    Attributes
    ----------
    path
        Path or URL, for messages.
    stack
        Projections ``(view, row, column)``.
    kind
        Name of the format, for people.
    by_view
        Images are decoded one by one, so that reading rows of all of them is slow.
    angles_deg, angles_from
        Angles that the source itself states, and where; None where it states none.
    pixel_size_nm, thickness_px, shifts_px
        As in the store; None where the source does not say.
    dark_level
        Value of vacuum, to be subtracted.
    dark, flat
        Frames ``(frame, row, column)`` without a beam and without a specimen; None where there are none.
    companions
        Files beside an MRC stack.
    mdoc
        Description by SerialEM that the source was opened by, or that lies beside it.
    axis_deg, axis_from
        Angle of the tilt axis that the file's own labels state.
    files
        Files that are read.
    images
        Files of one view each, in the order of the views; empty where one file holds all.
    notes
        Remarks of the reader: what it decided, and what it did not use.
    unused
        Names of what lies in the source and was not used, and why.
    beyond
        Alignments that lie beside the target of a link, and not beside the link.
    """

    path: str
    stack: VolumeSource
    kind: str
    by_view: bool = False
    angles_deg: tuple[float, ...] | None = None
    angles_from: str = ""
    pixel_size_nm: float | None = None
    pixel_from: str = ""
    thickness_px: int | None = None
    shifts_px: tuple[tuple[float, float], ...] | None = None
    dark_level: float = 0.0
    dark: VolumeSource | None = None
    flat: VolumeSource | None = None
    companions: Companions | None = None
    mdoc: Mdoc | None = None
    axis_deg: float | None = None
    axis_from: str = ""
    files: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    unused: tuple[tuple[str, str], ...] = ()
    beyond: tuple[Path, ...] = ()


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
    name = path.name.removesuffix(path.suffix)
    candidates = [name, *(f"{name}{s}" for s in STACK_SUFFIXES[:2])]
    if mdoc.image_file:
        candidates.insert(0, name_of(mdoc.image_file))
    folder = FolderNames(path.parent)
    # Exact names go first: another series may have a name that differs in case only.
    for named in (folder.find(c, exact=exact) for exact in (True, False) for c in candidates):
        if named is not None and named.suffix.lower() in STACK_SUFFIXES:
            found = _mrc(named)
            if found.companions is None or found.companions.mdoc != path:
                return replace(found, mdoc=mdoc)
            return found
    files, missing = list[Path](), list[str]()
    for section in mdoc.sections:
        name = section.sub_frame_name or section.image or ""
        file = path.parent / name
        found_by_name = file if name and file.is_file() else folder.find(name_of(name))
        if found_by_name is not None:
            files.append(found_by_name)
        else:
            missing.append(name or f"the frame of section {section.z_value}")
    if missing:
        raise InputError(
            "source",
            str(path),
            f"names {len(mdoc.sections)} images, of which {len(missing)} are not beside it: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}",
            "put the images, or the stack that was made of them, into the same folder",
        )
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
        companions=_of_single_images(find_companions(_stack_of(path))),
        files=(path, *files),
        images=tuple(files),
    )


def _stack_of(mdoc: Path) -> Path:
    """The stack that an mdoc would describe."""
    name = mdoc.name.removesuffix(mdoc.suffix)
    return mdoc.with_name(name if Path(name).suffix.lower() in STACK_SUFFIXES else f"{name}.mrc")


def _of_single_images(found: Companions) -> Companions:
    """Files beside single images: what goes by the order of a stack is of no use."""
    ordered = (found.tlt, found.rawtlt, found.xtilt, found.tilt_command, found.newstack_command)
    other = tuple(path for path in ordered if path is not None)
    return Companions(found.base, xf=found.xf, aln=found.aln, other=(*other, *found.other))


def _within(folder: Path) -> Companions:
    """Files about geometry in a folder of images."""

    def all_of(*suffixes: str) -> list[Path]:
        files = [f for f in sorted(folder.iterdir()) if f.name[0] != "."]
        return [f for f in files if f.suffix.lower() in suffixes]

    xf, aln = all_of(".xf"), all_of(".aln")
    other = [*xf[1:], *aln[1:], *all_of(".tlt", ".rawtlt", ".xtilt", ".mdoc", ".com")]
    return Companions(
        folder.name,
        xf=xf[0] if xf else None,
        aln=aln[0] if aln else None,
        other=tuple(other),
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
        companions=_within(folder),
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
