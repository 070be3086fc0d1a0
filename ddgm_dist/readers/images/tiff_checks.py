"""Checks of TIFF files: complete, grey, and with one axis besides rows and columns."""

from __future__ import annotations

import json
import math
import re
import struct
from typing import IO

import tifffile

from ddgm_dist.errors import InputError

__all__ = ["check_page", "leading_axes", "offsets_of_pages", "refuse_frames"]

_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_COLOURS = {2: "in colour (RGB)", 3: "in colours of a palette", 5: "in colour (CMYK)"}
_COLOURS |= {6: "in colour (YCbCr)", 8: "in colour (CIELab)", 32803: "raw of a colour sensor"}
_EER = (65000, 65001, 65002)  # compression of electron events
_ORIENTATION = 274


def offsets_of_pages(file: IO[bytes], size: int) -> list[int]:
    """The bytes at which the directories of all pages begin.

    The library ends the list at a page that it cannot find, so it is followed here.

    Parameters
    ----------
    file
        The file, open for reading.
    size
        Its bytes.

    Raises
    ------
    ValueError
        It is no TIFF file, or a page lies beyond its end.
    """
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("it does not begin as one")
    version = struct.unpack_from(f"{order}H", head, 2)[0]
    if version not in (42, 43) or (version == 43 and len(head) < 16):
        raise ValueError("it does not begin as one")
    # Codes and widths of the number of tags and of an offset, and the width of a tag.
    count, pointer, tag = ("H", "I", 12) if version == 42 else ("Q", "Q", 20)
    at: int = struct.unpack_from(order + pointer, head, 4 if version == 42 else 8)[0]
    found: dict[int, None] = {}
    while at:
        if at in found:
            raise ValueError(f"its page {len(found) + 1} is an earlier one")
        found[at] = None
        file.seek(at)
        tags = _number(file, order + count, at, len(found), size)
        end = at + struct.calcsize(count) + tags * tag
        file.seek(end)
        at = _number(file, order + pointer, end, len(found), size)
    if not found:
        raise ValueError("it has no page")
    return list(found)


def _number(file: IO[bytes], code: str, at: int, page: int, size: int) -> int:
    width = struct.calcsize(code)
    raw = file.read(width) if at < size else b""
    if len(raw) < width:
        raise ValueError(f"it is cut short: page {page} lies beyond its {size} bytes")
    number: int = struct.unpack(code, raw)[0]
    return number


def refuse_frames(page: tifffile.TiffPage, name: str) -> None:
    """Refuse electron events of a detector, which are frames of one view."""
    if page.compression in _EER:
        raise InputError(
            "source",
            name,
            "holds frames of a detector in EER format",
            "sum or motion-correct the frames of each view first",
        )


def check_page(page: tifffile.TiffPage, size: int, where: str) -> int | None:
    """Check that a page is grey and complete.

    Parameters
    ----------
    page
        The page.
    size
        Bytes in the file.
    where
        File and page, for messages.

    Returns
    -------
    int
        The stored value of black, if the smallest value is white; None if the smallest is black.

    Raises
    ------
    InputError
        It holds no grey values, or is mirrored, or cut short.
    """
    light = page.photometric
    if page.samplesperpixel != 1 or light not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        what = _COLOURS.get(int(light), f"of {page.samplesperpixel} values a pixel")
        raise InputError("source", where, f"is {what}", "convert colour images to grey")
    if page.dtype is None or len(page.shape) != 2 or page.dtype.kind not in "fiu":
        raise InputError(
            "source",
            where,
            f"must be one grey image (row, column); it is {page.shape} of "
            f"{page.bitspersample}-bit values of type {page.dtype}",
            "save it as 8 or 16-bit integers or as float",
        )
    if page.tags.valueof(_ORIENTATION, default=1) not in (1, 4):
        raise InputError(
            "source",
            where,
            f"is to be turned or mirrored, by its Orientation {page.tags.valueof(_ORIENTATION)}",
            "apply the orientation, and save the image without it",
        )
    _check_complete(page, size, where)
    if light == _BLACK_IS_ZERO:
        return None
    if page.dtype.kind != "u":
        raise InputError(
            "source",
            where,
            f"is {page.dtype} with white as its smallest value (MINISWHITE), which leaves open "
            "whether the values are inverted",
            "save it with black as the smallest value",
        )
    return int(2**page.bitspersample - 1)


def _check_complete(page: tifffile.TiffPage, size: int, where: str) -> None:
    """Refuse a page of which strips or tiles are missing, or reach beyond the end of the file."""
    wanted = math.prod(page.chunked)
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if page.is_final:
        wanted, parts = 1, [(page.dataoffsets[0], page.nbytes)]
    if len(parts) < wanted or any(begin == 0 or count == 0 for begin, count in parts):
        why = f"lacks parts of its pixels: it names {len(parts)} strips or tiles of {wanted}"
    elif any(begin + count > size for begin, count in parts):
        last = max(begin + count for begin, count in parts)
        why = f"is cut short: its pixels reach to byte {last}, the file has {size}"
    else:
        return
    raise InputError("source", where, why, "copy it again")


def leading_axes(page: tifffile.TiffPage) -> tuple[dict[str, int], bool]:
    """Axes besides rows and columns that the description of the first page names.

    Parameters
    ----------
    page
        The first page, with the description of ImageJ, OME or tifffile.

    Returns
    -------
    tuple
        Extents greater than one by name; and whether their product is to be the number of pages.
    """
    text = page.description
    if text.startswith("ImageJ="):
        found = {
            name: int(count)
            for name, count in re.findall(r"^(images|channels|slices|frames)=(\d+)\s*$", text, re.M)
        }
        images = found.pop("images", 1)
        return _beyond_one(found) or _beyond_one({"images": images}), True
    if "<OME" in text[:1000]:
        pixels = re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", text)
        sizes = [dict(re.findall(r'\bSize([ZCT])="(\d+)"', tag)) for tag in pixels]
        if len(sizes) != 1:
            planes = sum(math.prod(map(int, size.values())) for size in sizes)
            return _beyond_one({"images": planes}), bool(sizes)
        return _beyond_one({axis: int(n) for axis, n in sizes[0].items()}), True
    if text.startswith('{"shape":'):
        try:
            shape = [int(n) for n in json.loads(text)["shape"] if n != 1]
        except (ValueError, TypeError, KeyError):
            return {}, False
        inner = sum(n != 1 for n in page.shape)
        return {f"axis {k}": n for k, n in enumerate(shape[: len(shape) - inner])}, False
    return {}, False


def _beyond_one(extents: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in extents.items() if n > 1}
