"""The first pixel of an MRC file, from header, size and statistics.

Programs leave out or misstate the size of the extended header. The header's statistics decide
between readings, where they fit only one. Otherwise the file is refused: pixels that are shifted look
like data.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc.fields import HEADER_BYTES
from ddgm_dist.readers.mrc.header import MrcHeader
from ddgm_dist.readers.mrc.packed_array import PackedArray
from ddgm_dist.readers.mrc.statistics import agrees, as_dtype, decides
from ddgm_dist.readers.stored_array import FileState, Stored, StoredArray

__all__ = ["first_pixel", "pixels_from"]

_PIECE = 2**24  # bytes looked at in one go
_RECORDS = (80, 256, 888)  # bytes of which extended headers are made: symmetry, IMOD's, FEI's
_EXTENDED_TYPES = ("AGAR", "CCP4", "FEI1", "FEI2", "HDF5", "MRCO", "SERI")

_log = logging.getLogger("ddgm_dist")


def pixels_from(path: Path, state: FileState, header: MrcHeader, offset: int) -> Stored:
    """The pixels ``(section, row, column)`` as they are stored, 4-bit ones unpacked.

    Parameters
    ----------
    path
        Path of the file.
    state
        State of the file, from `file_state`.
    header
        Header of the file.
    offset
        Byte at which the pixels begin.
    """
    sections, rows, columns = header.shape
    width = header.row_bytes if header.packed else columns
    shape = (sections, rows, width)
    stored = StoredArray(path.absolute(), str(path), state, offset, header.dtype, shape)
    return PackedArray(stored, columns) if header.packed else stored


def first_pixel(path: Path, state: FileState, header: MrcHeader) -> int:
    """The byte at which the pixels begin.

    The size of the extended header is what the header says, if the file has just as many bytes.
    If not, it is what fits the statistics.

    Parameters
    ----------
    path
        Path of the file.
    state
        State of the file, from `file_state`.
    header
        Header of the file.

    Raises
    ------
    InputError
        The file is truncated, or the start of its pixels stays open.
    """
    size = state[0]
    room, stated, name = size - HEADER_BYTES - header.data_bytes, header.extended, str(path)
    if room == stated >= 0:
        return HEADER_BYTES + stated
    if room < 0 or 0 < room < stated:
        raise InputError(
            "source",
            name,
            f"is no MRC file, or shorter than its header says: {header.data_bytes} bytes of pixels "
            f"{header.shape} and {max(0, stated)} of extended header do not fit into the "
            f"{size - HEADER_BYTES} that follow the header",
            "copy it again",
        )
    after = min(room, max(0, stated))
    fits = {n for n in (after, room) if _fit(path, state, header, HEADER_BYTES + n)}
    # A wrong number and bytes after the pixels might fit together by chance. Sizes that are too small
    # by one leave at least a face of the volume, in pixels, after those that are read.
    face = header.data_bytes // max(header.shape)
    whole = stated <= 0 and any(room % n == 0 for n in _RECORDS)
    ends = HEADER_BYTES + after + header.data_bytes
    few = room - after < face
    if fits == {after}:
        after_is_meant = few or _is_padding(path, ends)
    else:
        after_is_meant = few and not decides(header.statistics) and _is_a_line_end(path, ends, size)
    if fits == {room} and (whole or room == 0):
        chosen = room
    elif after_is_meant:
        chosen = after
    elif room in fits and whole and header.extended_type in _EXTENDED_TYPES:
        chosen = room
    else:
        raise InputError(
            "source",
            name,
            f"its header states {stated} bytes of extended header (NSYMBT), but the file has {room}"
            " bytes more than header and pixels take, and the statistics in the header do not "
            "tell where the pixels begin",
            "correct NSYMBT, cut off what follows the pixels, or copy a file again that was cut short",
        )
    _log.warning(
        "%s: its header states %d bytes of extended header and the file has room for %d: pixels "
        "are read from byte %d on, by %s",
        *(name, stated, room, HEADER_BYTES + chosen),
        "its statistics" if fits else "what follows them or the type of that header",
    )
    return HEADER_BYTES + chosen


def _fit(path: Path, state: FileState, header: MrcHeader, offset: int) -> bool:
    """Return whether pixels from this offset on have the statistics of the header."""
    stated = header.statistics
    if stated is None or not decides(stated):
        return False
    stored = pixels_from(path, state, header, offset)
    readings: list[Stored] = [stored]
    if isinstance(stored, StoredArray) and header.dtype.kind in "iu":
        kind = "u" if header.dtype.kind == "i" else "i"
        readings.append(as_dtype(stored, f"{kind}{header.dtype.itemsize}"))
    return any(agrees(reading, stated) for reading in readings)


def _is_padding(path: Path, start: int) -> bool:
    """Return whether all bytes from ``start`` to the end are the same."""
    with path.open("rb") as file:
        file.seek(start)
        first = file.read(1)
        while part := file.read(_PIECE):
            if part.strip(first):
                return False
    return True


def _is_a_line_end(path: Path, start: int, size: int) -> bool:
    """Return whether the rest of a file is a line end, which an editor or a transfer adds."""
    if not 0 < size - start <= 2:
        return False
    with path.open("rb") as file:
        file.seek(start)
        return file.read() in (b"\n", b"\r\n")
