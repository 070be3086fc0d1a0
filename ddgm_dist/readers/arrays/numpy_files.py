"""Readers of NumPy files."""

from __future__ import annotations

import logging
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.readers.angles import as_angles
from ddgm_dist.readers.arrays.npy_header import NpyHeader, npy_header
from ddgm_dist.readers.base import ArrayVolume, VolumeSource, check_numbers
from ddgm_dist.readers.magic import head_of, mislabelled
from ddgm_dist.readers.stored_array import FileState, StoredArray, StoredVolume, file_state

__all__ = ["NpzStack", "open_npy", "open_npz"]

DATA_KEYS = ("projections", "aligned", "data", "tilt_series", "arr_0")
ANGLE_KEYS = ("angles_deg", "angles", "tilt_angles")

_log = logging.getLogger("ddgm_dist")

_IN_MEMORY = 64 * 2**20  # bytes of an array that are loaded with their checksum, not streamed
_LOCAL_HEADER = 30  # bytes before a member's name in a ZIP archive


@dataclass(frozen=True)
class NpzStack:
    """A stack of projections from an ``.npz`` archive, with its angles and scalars.

    Attributes
    ----------
    stack
        The projections ``(tilt, row, column)``.
    angles_deg
        Degrees; None when the archive has none.
    pixel_size_nm, thickness_px
        As in the store; None when the archive has none.
    shifts_px
        ``(dy, dx)`` per tilt, pixels; None when the archive has none.
    dark_level
        Value of vacuum, to be subtracted; 0 when the archive has none.
    key
        Name of the array that the projections are.
    others
        Names of other arrays of three axes, which are not read.
    """

    stack: VolumeSource
    angles_deg: tuple[float, ...] | None
    pixel_size_nm: float | None
    thickness_px: int | None
    shifts_px: tuple[tuple[float, float], ...] | None
    dark_level: float
    key: str
    others: tuple[str, ...] = ()


def open_npy(path: Path) -> StoredVolume:
    """Open a ``.npy`` file of three axes, of any dtype of real numbers, order and byte order.

    Boxes are read from the file as they are asked for.

    Raises
    ------
    InputError
        The file is missing, damaged, pickled or not a stack of real numbers.
    """
    name = str(path)
    with _reasons(path, ".npy", b"\x93NUMPY"):
        state = file_state(path)
        with path.open("rb") as file:
            header = npy_header(file)
            check_numbers(name, header.shape, _unpickled(header).dtype)
            stored = _stored(path, name, state, header, header.offset)
            missing = stored.offset + stored.nbytes - state[0]
            if missing > 0:
                raise ValueError(f"it is cut short: {missing} of {stored.nbytes} bytes are missing")
            file.seek(stored.offset + stored.nbytes)
            rest = file.read(6)
    if rest == b"\x93NUMPY":
        raise InputError(
            "source", name, "holds several arrays one after another", "save them as .npz"
        )
    if rest:
        _log.warning("%s: %d bytes follow its array, and are not read", name, -missing)
    return StoredVolume(stored, name)


def open_npz(path: Path, key: str | None = None) -> NpzStack:
    """Open an ``.npz`` archive: projections, and angles and scalars when they are there.

    Angles in degrees are ``angles_deg``, ``angles`` or ``tilt_angles``. The other keys are named as the
    fields of `NpzStack`. Projections beyond 64 MiB are read box by box if they are stored without
    compression, and loaded otherwise.

    Parameters
    ----------
    path
        Path of the archive.
    key
        Name of the array that holds the projections. By default it is the first of the names
        ``projections``, ``aligned``, ``data``, ``tilt_series`` and ``arr_0``, or else the only array
        of three axes. A choice among several is logged.

    Raises
    ------
    InputError
        The file is missing or damaged, or it is not clear which array holds the projections.
    """
    with _reasons(path, ".npz", b"PK\x03\x04"):
        state = file_state(path)
        with zipfile.ZipFile(path) as archive:
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
            headers = {}
            for name, info in members.items():
                with archive.open(info) as file:
                    headers[name] = npy_header(file)
            chosen, others = _data_key(headers, key, str(path))
            stack = _stack(archive, members[chosen], headers[chosen], state, f"{path}[{chosen}]")
            small = {
                name: _load(archive, members[name])
                for name in (
                    *ANGLE_KEYS,
                    "thickness_px",
                    "pixel_size_nm",
                    "shifts_px",
                    "dark_level",
                )
                if name in members
            }
    angles = next((small[k] for k in ANGLE_KEYS if k in small), None)
    thickness = _scalar(small, "thickness_px", path)
    return NpzStack(
        stack=stack,
        angles_deg=None if angles is None else as_angles(angles, str(path)),
        pixel_size_nm=_scalar(small, "pixel_size_nm", path),
        thickness_px=None if thickness is None else int(thickness),
        shifts_px=_shifts(small.get("shifts_px"), str(path)),
        dark_level=_scalar(small, "dark_level", path) or 0.0,
        key=chosen,
        others=others,
    )


@contextmanager
def _reasons(path: Path, kind: str, magic: bytes) -> Iterator[None]:
    """Turn what other libraries raise into an InputError, which names the format if it is another."""
    try:
        yield
    except InputError:
        raise
    except (
        *(OSError, ValueError, EOFError, RuntimeError, OverflowError, MemoryError, struct.error),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        why, hint = mislabelled(head_of(path), magic) or (str(error), "")
        raise InputError("source", str(path), f"cannot be read as {kind} ({why})", hint) from error


def _unpickled(header: NpyHeader) -> NpyHeader:
    if header.dtype.hasobject:
        raise ValueError("it holds pickled Python objects, not numbers")
    return header


def _stored(path: Path, name: str, state: FileState, header: NpyHeader, offset: int) -> StoredArray:
    one, two, three = header.shape
    shape = (one, two, three)
    return StoredArray(path.absolute(), name, state, offset, header.dtype, shape, header.fortran)


def _stack(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    header: NpyHeader,
    state: FileState,
    name: str,
) -> VolumeSource:
    """The projections: loaded, or read by box where they are large and not compressed."""
    check_numbers(name, header.shape, _unpickled(header).dtype)
    if info.file_size < header.offset + header.nbytes:
        raise ValueError(f"{name} has {info.file_size} bytes, fewer than its header says")
    if header.nbytes <= _IN_MEMORY or info.compress_type != zipfile.ZIP_STORED:
        return ArrayVolume(_load(archive, info), name)
    path = Path(str(archive.filename))
    with path.open("rb") as file:
        file.seek(info.header_offset)
        of_name, of_extra = struct.unpack_from("<HH", file.read(_LOCAL_HEADER), 26)
    begin = info.header_offset + _LOCAL_HEADER + of_name + of_extra + header.offset
    if info.flag_bits & 1 or begin + header.nbytes > state[0]:
        raise ValueError(f"{name} is encrypted, or reaches beyond the end of the file")
    return StoredVolume(_stored(path, name, state, header, begin), name)


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    # Not np.load on the archive: it leaves files open when they are damaged.
    with archive.open(info) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # the checksum is looked at when the end is reached
    return array


def _data_key(
    headers: dict[str, NpyHeader], key: str | None, path: str
) -> tuple[str, tuple[str, ...]]:
    """Name of the projections, and those of other arrays of three axes."""
    stacks = [name for name, header in headers.items() if len(header.shape) == 3]
    shapes = {name: header.shape for name, header in headers.items()}
    if key is not None:
        if key not in headers:
            raise InputError("key", key, f"is not in {path}, which holds {shapes}")
        return key, tuple(name for name in stacks if name != key)
    chosen = next((name for name in DATA_KEYS if name in headers), None)
    if chosen is None and len(stacks) == 1:
        chosen = stacks[0]
    if chosen is None:
        raise InputError(
            "source",
            path,
            f"does not show which of its arrays holds the projections: {shapes}",
            "name it 'projections'",
        )
    others = tuple(name for name in stacks if name != chosen)
    if others:
        _log.warning("%s: reads %r, and not %s", path, chosen, ", ".join(map(repr, others)))
    return chosen, others


def _shifts(shifts: NDArray[Any] | None, path: str) -> tuple[tuple[float, float], ...] | None:
    if shifts is None:
        return None
    if shifts.ndim != 2 or shifts.shape[1] != 2 or shifts.dtype.kind not in "fiu":
        raise InputError("shifts_px", shifts.shape, f"of {path} must be [dy, dx] for each tilt")
    return tuple((float(dy), float(dx)) for dy, dx in shifts)


def _scalar(arrays: dict[str, NDArray[Any]], key: str, path: Path) -> float | None:
    if key not in arrays:
        return None
    if arrays[key].size != 1 or arrays[key].dtype.kind not in "fiu":
        raise InputError("source", str(path), f"its {key!r} must be one number")
    return float(arrays[key].reshape(()))
