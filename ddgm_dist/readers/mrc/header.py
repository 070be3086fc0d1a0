"""The meaning of the header of an MRC file, and checks of it.

Whether the header agrees with the rest of the file is looked at by `layout`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc.fields import (
    DTYPES,
    HEADER_BYTES,
    REFUSED,
    check_magic,
    in_byte_order,
)

__all__ = ["MrcHeader", "Statistics", "read_header"]

_log = logging.getLogger("ddgm_dist")

_STANDARD = "0, 1, 2, 6, 12 and 101 are read"
_OTHERWISE = "write it as mode 1, 2 or 6, with IMOD's newstack -mode 2 for example"
_IMOD_STAMP, _SIGNED, _FOUR_BITS = 1146047817, 1, 16
_PACKED = 101
# Columns and rows of super-resolution frames, to which IMOD looks where its flag is not set.
_SUPER_RESOLUTION = ((7676, 7420), (7680, 7424), (11520, 8184))


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
    packed
        Whether each byte holds two values of 4 bits.
    axes
        Axes (1 for x, 2 for y, 3 for z) along which columns, rows and sections run.
    statistics
        Stated statistics; None where the header leaves them open, as MRC2014 allows.
    extended
        Stated number of bytes between this header and the pixels.
    extended_type
        Type of the extended header, at most four letters.
    version
        Version of the standard that the header declares, 20140 or later; 0 if it declares none.
    imod_signed
        Whether IMOD's flags say that bytes are signed; None without these flags.
    pixel_nm
        Size of a pixel along x and y, nanometres; None where unknown.
    labels
        Texts of the programs that wrote the file.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, int, int]
    packed: bool
    axes: tuple[int, int, int]
    statistics: Statistics | None
    extended: int
    extended_type: str
    version: int
    imod_signed: bool | None
    pixel_nm: tuple[float | None, float | None]
    labels: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes that a row of pixels takes."""
        columns = self.shape[2]
        return (columns + 1) // 2 if self.packed else columns * self.dtype.itemsize

    @property
    def data_bytes(self) -> int:
        """Bytes that the pixels take."""
        return self.shape[0] * self.shape[1] * self.row_bytes


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
    check_magic(raw, size, name)
    if len(raw) < HEADER_BYTES:
        raise InputError(
            "source",
            name,
            f"is not an MRC file: it has {len(raw)} bytes, the header alone has {HEADER_BYTES}",
        )
    words = in_byte_order(raw, size, name)
    sections, rows, columns = (int(n) for n in words["size"][::-1])
    if min(sections, rows, columns) < 1:
        raise InputError(
            "source",
            name,
            "is not an MRC file, or damaged: its header states "
            f"{columns} columns, {rows} rows and {sections} sections",
        )
    _check_kind(words, name)
    halved = _two_in_a_byte(words, name)
    packed = halved or int(words["mode"]) == _PACKED
    stamped = int(words["imod_stamp"]) == _IMOD_STAMP
    version = int(words["version"])
    return MrcHeader(
        dtype=np.dtype(
            "u1" if packed else f"{words.dtype['mode'].str[0]}{DTYPES[int(words['mode'])]}"
        ),
        shape=(sections, rows, 2 * columns if halved else columns),
        packed=packed,
        axes=_axes(words, name),
        statistics=_statistics(words),
        extended=int(words["extended"]),
        extended_type=bytes(words["extended_type"]).decode("ascii", "replace").strip(" \0"),
        version=version if 20140 <= version < 20990 else 0,
        imod_signed=bool(int(words["imod_flags"]) & _SIGNED) if stamped else None,
        pixel_nm=_pixel_sizes(words, name),
        labels=_labels(words),
    )


def _check_kind(words: np.void, name: str) -> None:
    """Refuse a file without real numbers, or with more than one volume."""
    mode = int(words["mode"])
    if mode in REFUSED:
        _, why, hint = REFUSED[mode]
        raise InputError("source", name, f"{why}; modes {_STANDARD}", hint or _OTHERWISE)
    if mode not in DTYPES:
        if not 0 <= mode < 2**16:
            why, hint = f"is not an MRC file, or damaged: its header states mode {mode}", ""
        elif mode // 1000 in range(1, 7) and mode % 1000 in DTYPES:
            why, hint = f"is mode {mode}, compressed as MRCZ", "write it without compression"
        else:
            why, hint = f"is mode {mode}, which no standard of MRC knows", _OTHERWISE
        raise InputError("source", name, f"{why}; modes {_STANDARD}", hint)
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


def _two_in_a_byte(words: np.void, name: str) -> bool:
    """Return whether bytes of mode 0 hold two pixels each, and columns are counted in bytes.

    IMOD marks that by a flag. Before it had one, SerialEM wrote a label only; IMOD believes it where
    the size is that of a camera's super-resolution frame.
    """
    flags = int(words["imod_flags"]) if int(words["imod_stamp"]) == _IMOD_STAMP else 0
    labels = _labels(words)
    said = len(labels) == 1 and "4 bits packed" in labels[0]
    if int(words["mode"]) != 0 or not (flags & _FOUR_BITS or said):
        return False
    if flags & _SIGNED:
        raise InputError(
            "source",
            name,
            "is marked as bytes of two 4-bit pixels and as signed bytes, which contradict",
            "unpack it with the program that wrote it",
        )
    size = (2 * int(words["size"][0]), int(words["size"][1]))
    known = [pair for a, b in _SUPER_RESOLUTION for pair in ((a, b), (b, a))]
    if not flags & _FOUR_BITS and not any(
        abs(size[0] - a) <= 4 and abs(size[1] - b) <= 2 for a, b in known
    ):
        raise InputError(
            "source",
            name,
            "has a label of 4 bits packed, but neither IMOD's flag for it nor the size of a frame",
            "if its bytes are whole pixels, remove the label, with IMOD's alterheader; if not, "
            "write it as mode 101",
        )
    _log.warning("%s: its bytes hold two pixels of 4 bits each: they are unpacked", name)
    return True


def _axes(words: np.void, name: str) -> tuple[int, int, int]:
    columns, rows, sections = (int(axis) for axis in words["axes"])
    if (columns, rows, sections) == (0, 0, 0):  # old programs leave them out
        return (1, 2, 3)
    if sorted((columns, rows, sections)) != [1, 2, 3]:
        raise InputError(
            "source",
            name,
            f"its header says that columns, rows and sections run along axes {columns}, {rows} and "
            f"{sections} (MAPC, MAPR, MAPS), which are not 1, 2 and 3 in some order",
            "correct it; 1, 2, 3 is what most programs write",
        )
    return (columns, rows, sections)


def _statistics(words: np.void) -> Statistics | None:
    """Stated statistics; MRC2014 marks them as open by values in the wrong order."""
    low, high, mean = (float(value) for value in words["statistics"])
    if not (math.isfinite(low) and math.isfinite(high)) or high < low or low == high == 0:
        return None
    return Statistics(low, high, mean if low <= mean <= high else None)


def _pixel_sizes(words: np.void, name: str) -> tuple[float | None, float | None]:
    """The cell's lengths over its samples along x and y, nanometres."""
    sizes: list[float | None] = []
    for length, samples in zip(words["cell"][:2], words["sampling"][:2], strict=True):
        size = float(length) / int(samples) / 10 if int(samples) > 0 else 0.0
        if not math.isfinite(size) or size < 0:
            _log.warning("%s: its cell of %g angstrom is no size: ignored", name, float(length))
            return None, None
        sizes.append(size if size > 0 else None)
    return sizes[0], sizes[1]


def _labels(words: np.void) -> tuple[str, ...]:
    """Texts of the header, as many as it states."""
    count = min(max(0, int(words["label_count"])), len(words["labels"]))
    texts = (bytes(label).decode("latin-1").strip(" \0") for label in words["labels"][:count])
    return tuple(texts)
