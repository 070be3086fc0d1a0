"""Readers of NumPy files."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.readers.angles import as_angles
from ddgm_dist.readers.base import ArrayVolume

__all__ = ["NpzStack", "open_npy", "open_npz"]

DATA_KEYS = ("projections", "aligned", "data", "tilt_series", "arr_0")
ANGLE_KEYS = ("angles_deg", "angles", "tilt_angles")


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
    """

    stack: ArrayVolume
    angles_deg: tuple[float, ...] | None
    pixel_size_nm: float | None
    thickness_px: int | None
    shifts_px: tuple[tuple[float, float], ...] | None
    dark_level: float


def open_npy(path: Path) -> ArrayVolume:
    """Map a ``.npy`` file of three axes into memory.

    Raises
    ------
    InputError
        The file is missing, damaged, pickled or not a stack of real numbers.
    """
    try:
        data = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError("source", str(path), f"cannot be read as .npy ({error})") from error
    return ArrayVolume(data, str(path))


def open_npz(path: Path) -> NpzStack:
    """Read an ``.npz`` archive: projections, and angles and scalars when they are there.

    The projections are the first of the keys ``projections``, ``aligned``, ``data``,
    ``tilt_series``, ``arr_0``, or else the only array of three axes. Angles in degrees are
    ``angles_deg``, ``angles`` or ``tilt_angles``. The other keys are named as the fields of `NpzStack`.

    Raises
    ------
    InputError
        The file is missing or damaged, or it is not clear which array holds the projections.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {
                name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("source", str(path), f"cannot be read as .npz ({error})") from error
    key = _data_key(arrays, str(path))
    angles = next((arrays[k] for k in ANGLE_KEYS if k in arrays), None)
    thickness = _scalar(arrays, "thickness_px", path)
    return NpzStack(
        stack=ArrayVolume(arrays[key], f"{path}[{key}]"),
        angles_deg=None if angles is None else as_angles(angles, str(path)),
        pixel_size_nm=_scalar(arrays, "pixel_size_nm", path),
        thickness_px=None if thickness is None else int(thickness),
        shifts_px=_shifts(arrays.get("shifts_px"), str(path)),
        dark_level=_scalar(arrays, "dark_level", path) or 0.0,
    )


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    # Not np.load on the archive: it leaves files open when they are damaged.
    with archive.open(name) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _data_key(arrays: dict[str, NDArray[Any]], path: str) -> str:
    for key in DATA_KEYS:
        if key in arrays:
            return key
    stacks = [key for key, array in arrays.items() if array.ndim == 3]
    if len(stacks) != 1:
        shapes = {key: array.shape for key, array in arrays.items()}
        raise InputError(
            "source",
            path,
            f"does not show which of its arrays holds the projections: {shapes}",
            "name it 'projections'",
        )
    return stacks[0]


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
