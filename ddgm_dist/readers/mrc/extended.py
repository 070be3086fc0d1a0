"""Tilt angles in the extended header of an MRC stack.

Four kinds are read: SerialEM's (type SERI, or none in old files), those of Agard's group and of old FEI
programs (AGAR, or none), and FEI1 and FEI2 of Thermo Fisher. Source: IMOD's description of its MRC
format, and Thermo Fisher's of theirs, *MRC2014 file image format specification*.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc.fields import HEADER_BYTES
from ddgm_dist.readers.mrc.header import MrcHeader

__all__ = [
    "extended_angles",
]

_log = logging.getLogger("ddgm_dist")

# SerialEM: bytes of each kind of data, for each bit of its flags. Tilt angles are the first kind.
_ITEM_BYTES = (2, 6, 4, 2, 2, 4, 2, 4, 2, 4, 2)
_OLD_FEI_REALS = 32
_STEEPEST = 180.0
# Thermo Fisher: offsets within the block of an image, and bits of the mask that say what is valid.
_SIZE, _MASK, _VERSION, _TILT, _PIXEL, _SHORTEST = 0, 8, 68, 100, 156, 168
_HAS_TILT, _HAS_PIXEL = 1 << 7, 1 << 14
_DEGREES_TWICE = b"4.4.0.4981"  # this version multiplied degrees by 180 / pi


@dataclass(frozen=True)
class _Extended:
    """Bytes of the extended header, and how they are to be read."""

    raw: bytes
    order: str
    integers: int
    reals: int
    images: int
    kind: str

    def value(self, code: str, offset: int) -> float:
        return float(np.frombuffer(self.raw, self.order + code, 1, offset)[0])


def extended_angles(path: Path, header: MrcHeader) -> tuple[float, ...] | None:
    """Tilt angles of the stored images, degrees; None if the file has none.

    Angles that are all zero were not recorded, and count as none. So do those of an extended header
    that is too short for all images, or that cannot be angles; a warning is logged.

    Parameters
    ----------
    header
        Header of this file.

    Raises
    ------
    InputError
        The file ends within its extended header, or cannot be read.
    """
    extended = _read(path, header)
    if extended is None:
        return None
    angles = _angles(extended)
    if angles is None or not any(angles):
        return None
    if len(angles) < extended.images:
        _log.warning(
            "%s: its extended header has tilt angles of %d images of %d: they are not used",
            *(path, len(angles), extended.images),
        )
        return None
    if not all(abs(angle) <= _STEEPEST for angle in angles):
        _log.warning("%s: the tilt angles in its extended header are none: not used", path)
        return None
    return tuple(angles)


def _read(path: Path, header: MrcHeader) -> _Extended | None:
    """The extended header; None if there is none, or of a kind without angles."""
    if header.extended <= 0:
        return None
    try:
        with path.open("rb") as file:
            first, raw = file.read(HEADER_BYTES), file.read(header.extended)
    except OSError as error:
        raise InputError("source", str(path), f"cannot be read as MRC ({error})") from error
    if len(first) + len(raw) < HEADER_BYTES + header.extended:
        raise InputError(
            "source",
            str(path),
            f"ends within its extended header, after {len(raw)} of {header.extended} bytes",
            "copy the file again",
        )
    order = _byte_order(first, header)
    integers, reals = (int(n) for n in np.frombuffer(first, f"{order}i2", 2, 128))
    kind = _kind(header.extended_type, integers, reals)
    return (kind and _Extended(raw, order, integers, reals, header.shape[0], kind)) or None


def _byte_order(first: bytes, header: MrcHeader) -> str:
    """The byte order in which the header has the rows and sections that were read from it."""
    rows, sections = (int(n) for n in np.frombuffer(first, "<i4", 2, 4))
    return "<" if (sections, rows) == header.shape[:2] else ">"


def _kind(extended_type: str, integers: int, reals: int) -> str:
    """The kind of an extended header; empty for one without angles."""
    serial = _is_serial(integers, reals)
    match extended_type:
        case "FEI1" | "FEI2":
            return "FEI"
        case "SERI":
            return "SERI" if serial else ""
        case "AGAR":
            return "SERI" if serial else "AGAR" if integers >= 0 and reals > 0 else ""
        case "":
            if serial:
                return "SERI"
            return "AGAR" if integers == 0 and reals == _OLD_FEI_REALS else ""
    return ""


def _is_serial(integers: int, reals: int) -> bool:
    """True if the two numbers are bytes per image and flags, which must agree, as in IMOD."""
    if integers <= 0 or not 0 < reals < 1 << len(_ITEM_BYTES):
        return False
    return integers == sum(n for bit, n in enumerate(_ITEM_BYTES) if reals >> bit & 1)


def _angles(extended: _Extended) -> list[float] | None:
    """Angles of as many images as there are bytes for; None if none are recorded."""
    if extended.kind == "FEI":
        return _thermo_fisher(extended)
    if extended.kind == "SERI":
        if not extended.reals & 1:
            return None
        step, offset, code, unit = extended.integers, 0, "i2", 0.01
    else:
        step, offset = 4 * (extended.integers + extended.reals), 4 * extended.integers
        code, unit = "f4", 1.0
    images = min(extended.images, len(extended.raw) // step)
    return [_rounded(extended.value(code, i * step + offset) * unit) for i in range(images)]


def _thermo_fisher(extended: _Extended) -> list[float] | None:
    angles = []
    for block in _blocks(extended):
        if not int(extended.value("u4", block + _MASK)) & _HAS_TILT:
            return None
        angle = extended.value("f8", block + _TILT)
        version = extended.raw[block + _VERSION : block + _VERSION + 16].rstrip(b"\0 ")
        angles.append(math.radians(angle) if version == _DEGREES_TWICE else angle)
    return angles


def _blocks(extended: _Extended) -> Iterator[int]:
    """Offsets of the blocks of the images, each of which begins with its own length."""
    block = 0
    for _ in range(extended.images):
        if block + _SHORTEST > len(extended.raw):
            return
        size = int(extended.value("i4", block + _SIZE))
        if size < _SHORTEST or block + size > len(extended.raw):
            return
        yield block
        block += size


def _rounded(angle: float) -> float:
    """An angle without the digits that a float32 or a product with 0.01 adds."""
    return round(angle, 6) if math.isfinite(angle) else angle
