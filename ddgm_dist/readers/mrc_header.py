"""The 1024 bytes of header of an MRC file, and checks of their meaning.

After the MRC2014 standard (Cheng et al., J. Struct. Biol. 192, 2015) and IMOD's description of its
own fields. Whether the header agrees with the rest of the file is looked at by `mrc_layout`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddgm_dist.errors import InputError

__all__ = ["HEADER_BYTES", "MrcHeader", "Statistics", "read_header"]

HEADER_BYTES = 1024

_log = logging.getLogger("ddgm_dist")

_FIELDS = np.dtype(
    {
        "names": [
            *("size", "mode", "sampling", "cell", "axes", "statistics", "space_group"),
            *("extended", "extended_type", "version", "imod_stamp", "imod_flags"),
            *("stamp", "labels", "first_label"),
        ],
        "formats": [
            *("3i4", "i4", "3i4", "3f4", "3i4", "3f4", "i4"),
            *("i4", "S4", "i4", "i4", "i4"),
            *("4u1", "i4", "S80"),
        ],
        "offsets": [0, 12, 28, 40, 64, 76, 88, 92, 104, 108, 152, 156, 212, 220, 224],
        "itemsize": HEADER_BYTES,
    }
)
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_STANDARD = "0, 1, 2, 6 and 12 are read"
# Modes that are refused: bytes per value, reason and advice.
_REFUSED = {
    3: (4, "is mode 3, a Fourier transform of complex 16-bit integers", "transform it back"),
    4: (8, "is mode 4, a Fourier transform of complex numbers", "transform it back"),
    5: (1, "is mode 5, which is bytes to some programs and 16-bit to others", ""),
    7: (4, "is mode 7, 32-bit integers that only some programs write", ""),
    16: (3, "is mode 16, colour (red, green, blue)", "convert it to grey"),
    101: (0.5, "is mode 101, 4 bits a pixel", "unpack it, with IMOD's newstack -mode 1"),
}
_OTHERWISE = "write it as mode 1, 2 or 6, with IMOD's newstack -mode 2 for example"
_IMOD_STAMP, _SIGNED, _FOUR_BITS = 1146047817, 1, 16
_MAGIC = {
    b"\x1f\x8b\x08": ("is compressed by gzip, whatever its name", "gunzip it first"),
    b"BZh": ("is compressed by bzip2, whatever its name", "bunzip2 it first"),
    b"PK\x03\x04": ("is a ZIP archive, whatever its name", "unzip it first"),
    b"\xfd7zXZ": ("is compressed by xz, whatever its name", "unxz it first"),
    b"\x28\xb5\x2f\xfd": ("is compressed by zstd, whatever its name", "unzstd it first"),
    b"\x89HDF": ("is an HDF5 file, whatever its name", "export it as MRC"),
    b"II*\0": ("is a TIFF image, whatever its name", "put one image per tilt into a folder"),
    b"MM\0*": ("is a TIFF image, whatever its name", "put one image per tilt into a folder"),
}


@dataclass(frozen=True)
class Statistics:
    """Smallest, largest and mean value that a header states, in stored units."""

    low: float
    high: float
    mean: float | None

    def within(self, low: float, high: float) -> bool:
        """Return whether all values lie in a range."""
        return low <= self.low and self.high <= high


@dataclass(frozen=True)
class MrcHeader:
    """Fields of a header, in the byte order of the file.

    Attributes
    ----------
    dtype
        Dtype of the stored values, with the byte order.
    shape
        ``(section, row, column)`` as stored.
    order
        Axes that transpose ``shape`` to ``(z, y, x)``.
    statistics
        Stated statistics; None where the header leaves them open, as MRC2014 allows.
    extended
        Stated number of bytes between this header and the pixels.
    extended_type
        Type of the extended header, at most four letters.
    standard
        Whether the header declares MRC2014 or later.
    imod_signed
        Whether IMOD's flags say that bytes are signed; None without these flags.
    pixel_size_nm
        Size of a pixel along x, nanometres; None when unknown.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, int, int]
    order: tuple[int, int, int]
    statistics: Statistics | None
    extended: int
    extended_type: str
    standard: bool
    imod_signed: bool | None
    pixel_size_nm: float | None

    @property
    def data_bytes(self) -> int:
        """Bytes that the pixels take."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path, size: int) -> MrcHeader:
    """Read and check the header of a file of ``size`` bytes.

    A departure from the standard that leaves one meaning is logged as a warning.

    Raises
    ------
    InputError
        It is no MRC file, or of a kind that is not read; or the header contradicts itself.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        raw = file.read(HEADER_BYTES)
    name = str(path)
    _check_magic(raw, size, name)
    if len(raw) < HEADER_BYTES:
        raise InputError(
            "source",
            name,
            f"is not an MRC file: it has {len(raw)} bytes, the header alone has {HEADER_BYTES}",
        )
    words = _in_byte_order(raw, size, name)
    shape = tuple(int(n) for n in words["size"][::-1])
    if min(shape) < 1:
        raise InputError(
            "source",
            name,
            "is not an MRC file, or damaged: its header states "
            f"{shape[2]} columns, {shape[1]} rows and {shape[0]} sections",
        )
    _check_kind(words, name)
    dtype = np.dtype(f"{words.dtype['mode'].str[0]}{_DTYPES[int(words['mode'])]}")
    stamped = int(words["imod_stamp"]) == _IMOD_STAMP
    return MrcHeader(
        dtype=dtype,
        shape=(shape[0], shape[1], shape[2]),
        order=_axes(words, name),
        statistics=_statistics(words),
        extended=int(words["extended"]),
        extended_type=bytes(words["extended_type"]).decode("ascii", "replace").strip(" \0"),
        standard=20140 <= int(words["version"]) < 20990,
        imod_signed=bool(int(words["imod_flags"]) & _SIGNED) if stamped else None,
        pixel_size_nm=_pixel_size(words, name),
    )


def _check_magic(raw: bytes, size: int, name: str) -> None:
    """Refuse other formats, which begin with bytes that may also be the number of columns."""
    for magic, (why, hint) in _MAGIC.items():
        if raw.startswith(magic) and not _makes_sense(raw, size):
            raise InputError("source", name, why, hint)


def _makes_sense(raw: bytes, size: int) -> bool:
    """Return whether these are the numbers of an MRC file of ``size`` bytes, in either byte order."""
    if len(raw) < HEADER_BYTES:
        return False
    for fields in (_FIELDS.newbyteorder("<"), _FIELDS.newbyteorder(">")):
        words = np.frombuffer(raw, fields)[0]
        shape, mode = [int(n) for n in words["size"]], int(words["mode"])
        if min(shape) < 1 or mode not in _DTYPES:
            continue
        if sorted(int(axis) for axis in words["axes"]) not in ([1, 2, 3], [0, 0, 0]):
            continue
        if HEADER_BYTES + math.prod(shape) * np.dtype(_DTYPES[mode]).itemsize <= size:
            return True
    return False


def _in_byte_order(raw: bytes, size: int, name: str) -> np.void:
    """The header's words in the byte order in which they make most sense."""
    found = {
        "<": np.frombuffer(raw, _FIELDS.newbyteorder("<"))[0],
        ">": np.frombuffer(raw, _FIELDS.newbyteorder(">"))[0],
    }
    stamped = {b"\x44": "<", b"\x11": ">"}.get(raw[212:213], "")

    def sense(order: str) -> tuple[bool, ...]:
        words = found[order]
        shape, mode = [int(n) for n in words["size"]], int(words["mode"])
        width = np.dtype(_DTYPES[mode]).itemsize if mode in _DTYPES else _REFUSED.get(mode, (1,))[0]
        return (
            min(shape) > 0 and 0 <= mode < 2**16,
            HEADER_BYTES + math.prod(shape) * width <= size,
            all(-3 <= int(axis) <= 3 for axis in words["axes"]),
            order == stamped,
            order == "<",
        )

    order = max("<>", key=sense)
    if stamped and stamped != order:
        _log.warning(
            "%s: its machine stamp says %s-endian, but only %s-endian makes sense of the header: "
            "it is read so",
            *(name, *("big" if o == ">" else "little" for o in (stamped, order))),
        )
    words: np.void = found[order]
    return words


def _check_kind(words: np.void, name: str) -> None:
    """Refuse a file without real numbers, or with more than one volume."""
    mode = int(words["mode"])
    if mode in _REFUSED:
        _, why, hint = _REFUSED[mode]
        raise InputError("source", name, f"{why}; modes {_STANDARD}", hint or _OTHERWISE)
    if mode not in _DTYPES:
        if not 0 <= mode < 2**16:
            why, hint = f"is not an MRC file, or damaged: its header states mode {mode}", ""
        elif mode // 1000 in range(1, 7) and mode % 1000 in _DTYPES:
            why, hint = f"is mode {mode}, compressed as MRCZ", "write it without compression"
        else:
            why, hint = f"is mode {mode}, which no standard of MRC knows", _OTHERWISE
        raise InputError("source", name, f"{why}; modes {_STANDARD}", hint)
    flags = int(words["imod_flags"]) if int(words["imod_stamp"]) == _IMOD_STAMP else 0
    packed = int(words["labels"]) == 1 and b"4 bits packed" in bytes(words["first_label"])
    if mode == 0 and (flags & _FOUR_BITS or packed):
        raise InputError(
            "source",
            name,
            "holds two pixels of 4 bits in each byte",
            "unpack it, with IMOD's newstack -mode 1",
        )
    group, deep, sections = int(words["space_group"]), int(words["sampling"][2]), words["size"][2]
    if 401 <= group <= 630 and deep != sections:
        volumes = f"{sections / deep:g} volumes of {deep} sections" if deep > 0 else "volumes"
        raise InputError(
            "source",
            name,
            f"is a stack of {volumes} (space group {group}), where one volume or one tilt series "
            "is wanted",
            "write each volume to a file of its own",
        )


def _axes(words: np.void, name: str) -> tuple[int, int, int]:
    """The axes that transpose ``(section, row, column)`` to ``(z, y, x)``."""
    columns, rows, sections = (int(axis) for axis in words["axes"])
    stored = (sections, rows, columns)
    if stored == (0, 0, 0):  # old programs leave them out
        return (0, 1, 2)
    if sorted(stored) != [1, 2, 3]:
        raise InputError(
            "source",
            name,
            f"its header says that columns, rows and sections run along axes {columns}, {rows} and "
            f"{sections} (MAPC, MAPR, MAPS), which are not 1, 2 and 3 in some order",
            "correct it; 1, 2, 3 is what most programs write",
        )
    return (stored.index(3), stored.index(2), stored.index(1))


def _statistics(words: np.void) -> Statistics | None:
    """Stated statistics; MRC2014 marks them as open by values in the wrong order."""
    low, high, mean = (float(value) for value in words["statistics"])
    if not (math.isfinite(low) and math.isfinite(high)) or high < low or low == high == 0:
        return None
    return Statistics(low, high, mean if low <= mean <= high else None)


def _pixel_size(words: np.void, name: str) -> float | None:
    """The cell's length over its samples along x, nanometres; a warning where y differs."""
    sizes = []
    for length, samples in zip(words["cell"][:2], words["sampling"][:2], strict=True):
        size = float(length) / int(samples) / 10 if int(samples) > 0 else 0.0
        if not math.isfinite(size) or size < 0:
            _log.warning("%s: its cell of %g angstrom is no size: ignored", name, float(length))
            return None
        sizes.append(size)
    x, y = sizes
    if x > 0 and y > 0 and abs(x - y) > 0.01 * x:
        _log.warning(
            "%s: its pixels are not square: %.4g nm along x, %.4g nm along y; all is computed as "
            "if both were %.4g nm",
            *(name, x, y, x),
        )
    return x if x > 0 else None
