"""The fields of the 1024 bytes of an MRC header, in the byte order in which they make sense.

After the MRC2014 standard (Cheng et al., J. Struct. Biol. 192, 2015) and IMOD's description of its
own fields.
"""

from __future__ import annotations

import logging
import math

import numpy as np

from ddgm_dist.errors import InputError
from ddgm_dist.readers.magic import mislabelled

__all__ = ["DTYPES", "HEADER_BYTES", "REFUSED", "check_magic", "in_byte_order", "row_bytes"]

HEADER_BYTES = 1024

_log = logging.getLogger("ddgm_dist")

_FIELDS = np.dtype(
    {
        "names": [
            *("size", "mode", "sampling", "cell", "axes", "statistics", "space_group"),
            *("extended", "extended_type", "version", "imod_stamp", "imod_flags"),
            *("stamp", "label_count", "labels"),
        ],
        "formats": [
            *("3i4", "i4", "3i4", "3f4", "3i4", "3f4", "i4"),
            *("i4", "S4", "i4", "i4", "i4"),
            *("4u1", "i4", "10S80"),
        ],
        "offsets": [0, 12, 28, 40, 64, 76, 88, 92, 104, 108, 152, 156, 212, 220, 224],
        "itemsize": HEADER_BYTES,
    }
)
DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
# Modes that are refused: bytes per value, reason and advice.
REFUSED = {
    3: (4, "is mode 3, a Fourier transform of complex 16-bit integers", "transform it back"),
    4: (8, "is mode 4, a Fourier transform of complex numbers", "transform it back"),
    5: (1, "is mode 5, which is bytes to some programs and 16-bit to others", ""),
    7: (4, "is mode 7, 32-bit integers that only some programs write", ""),
    16: (3, "is mode 16, colour (red, green, blue)", "convert it to grey"),
}


def row_bytes(mode: int, columns: int) -> int:
    """Bytes of a row of the file; rows of 4-bit values are padded to whole bytes."""
    if mode == 101:
        return (columns + 1) // 2
    return columns * (
        np.dtype(DTYPES[mode]).itemsize if mode in DTYPES else REFUSED.get(mode, (1,))[0]
    )


def check_magic(raw: bytes, size: int, name: str) -> None:
    """Refuse other formats, which begin with bytes that may also be the number of columns."""
    other = mislabelled(raw[:200])
    if other and not _makes_sense(raw, size):
        raise InputError("source", name, *other)


def _makes_sense(raw: bytes, size: int) -> bool:
    """Return whether these are the numbers of an MRC file of ``size`` bytes, in either byte order."""
    if len(raw) < HEADER_BYTES:
        return False
    for fields in (_FIELDS.newbyteorder("<"), _FIELDS.newbyteorder(">")):
        words = np.frombuffer(raw, fields)[0]
        shape, mode = [int(n) for n in words["size"]], int(words["mode"])
        if min(shape) < 1 or mode not in DTYPES:
            continue
        if sorted(int(axis) for axis in words["axes"]) not in ([1, 2, 3], [0, 0, 0]):
            continue
        if HEADER_BYTES + math.prod(shape[1:]) * row_bytes(mode, shape[0]) <= size:
            return True
    return False


def in_byte_order(raw: bytes, size: int, name: str) -> np.void:
    """The header's fields in the byte order in which they make most sense."""
    found = {
        "<": np.frombuffer(raw, _FIELDS.newbyteorder("<"))[0],
        ">": np.frombuffer(raw, _FIELDS.newbyteorder(">"))[0],
    }
    stamped = {b"\x44": "<", b"\x11": ">"}.get(raw[212:213], "")

    def sense(order: str) -> tuple[bool, ...]:
        words = found[order]
        shape, mode = [int(n) for n in words["size"]], int(words["mode"])
        return (
            min(shape) > 0 and 0 <= mode < 2**16,
            HEADER_BYTES + math.prod(shape[1:]) * row_bytes(mode, shape[0]) <= size,
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
