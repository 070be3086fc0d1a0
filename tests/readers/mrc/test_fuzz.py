"""Damaged headers of small MRC files: the right pixels, or an error that says why; nothing else.

The oracle reads the fields with `struct`, after MRC2014 and IMOD's description, and knows where the
pixels are because it wrote the file. Where mrcfile goes by the same rules it has to agree too.
"""

import itertools
import struct
import warnings
from dataclasses import dataclass, field

import mrcfile
import numpy as np
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc.volume import open_mrc

TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
IMOD = 1146047817
OPEN = (0.0, -1.0, -2.0)
WORDS = (-(2**31), -1, 0, 1, 2, 3, 4, 5, 6, 12, 80, 101, 401, 512, 1024, 20140, 65536, 2**31 - 1)
FLOATS = (0.0, -1.0, 1.0, 127.0, 128.0, 255.0, 256.0, -128.0, 4e4, 1e38, float("nan"), float("inf"))
INTEGERS = [0, 4, 8, 12, 28, 32, 36, 64, 68, 72, 88, 92, 108, 152, 156, 208, 212]
REALS = [40, 44, 48, 76, 80, 84]


@dataclass
class File:
    order: str
    raw: bytearray = field(repr=False)
    begin: int  # of the pixels


def packed(values):
    """Rows of whole bytes, each with two values of 4 bits, the first in the low ones."""
    even = np.pad(values, ((0, 0), (0, 0), (0, values.shape[2] % 2)))
    return even[..., 0::2] | even[..., 1::2] << 4


def unpacked(stored, columns):
    return np.stack([stored & 15, stored >> 4], -1).reshape(*stored.shape[:2], -1)[..., :columns]


def number(order, raw, offset, code="i"):
    return struct.unpack_from(order + code, raw, offset)[0]


@st.composite
def files(draw):
    """A valid file of few pixels."""
    order, mode = draw(st.sampled_from("<>")), draw(st.sampled_from(sorted(TYPES)))
    shape = draw(st.sampled_from([(2, 3, 4), (3, 4, 2), (1, 5, 7), (4, 1, 6), (6, 6, 6)]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    dtype = np.dtype(order + TYPES[mode])
    flag = draw(st.sampled_from([None, 0, 1, 5, 16])) if mode == 0 else None
    if mode == 101:
        meant = rng.integers(0, 16, shape, np.uint8)
        stored = packed(meant)
    elif mode == 0:
        stored = rng.integers(0, 256, shape, np.uint8)
        meant = stored.view("u1" if flag == 0 or (draw(st.booleans()) and flag is None) else "i1")
        if flag == 16:
            meant = unpacked(stored, 2 * shape[2])
    elif dtype.kind == "f":
        meant = stored = rng.normal(0, 100, shape).astype(dtype)
    else:
        top = draw(st.sampled_from([100, 2**15 - 1, 2**16 - 1]))
        meant = stored = rng.integers(0, top, shape).astype(np.uint16).view(dtype.str[1:])
        meant = stored = stored.astype(dtype)
    statistics = (meant.min(), meant.max(), meant.mean(dtype=np.float64))
    if draw(st.booleans()) and (mode != 0 or flag is not None):
        statistics = OPEN
    extra = draw(st.sampled_from([b"", bytes(80), bytes(1024), rng.bytes(1024), rng.bytes(1536)]))
    axes = draw(st.sampled_from([(1, 2, 3), (1, 2, 3), *itertools.permutations((1, 2, 3))]))
    raw = bytearray(1024)
    struct.pack_into(order + "4i", raw, 0, *shape[::-1], mode)
    struct.pack_into(order + "3i3f", raw, 28, *shape[::-1], *(2.5 * n for n in shape[::-1]))
    struct.pack_into(order + "3i3f", raw, 64, *axes, *statistics)
    struct.pack_into(order + "2i", raw, 88, draw(st.sampled_from([0, 1])), len(extra))
    raw[104:108] = draw(st.sampled_from([b"\0\0\0\0", b"SERI" if extra else b"\0\0\0\0"]))
    struct.pack_into(order + "i", raw, 108, draw(st.sampled_from([0, 20140])))
    if flag is not None:
        struct.pack_into(order + "2i", raw, 152, IMOD, flag)
    raw[208:216] = b"MAP " + (b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0")
    body = stored if mode in (0, 101) else stored.astype(dtype)
    return File(order, raw + extra + body.tobytes(), 1024 + len(extra))


@st.composite
def damaged(draw):
    """A file, what was done to it counted, and the file as it was written."""
    file = draw(files())
    times = draw(st.integers(0, 3))
    kinds = st.sampled_from(["word", "word", "extended", "real", "byte", "longer", "shorter"])
    for kind in sorted((draw(kinds) for _ in range(times)), key=["longer", "shorter"].count):
        match kind:
            case "word":
                at, value = draw(st.sampled_from(INTEGERS)), draw(st.sampled_from(WORDS))
                struct.pack_into(file.order + "i", file.raw, at, value)
            case "extended":
                value = draw(st.sampled_from([0, 0, 80, 512, 1024, 1536, -1]))
                struct.pack_into(file.order + "i", file.raw, 92, value)
            case "real":
                at, value = draw(st.sampled_from(REALS)), draw(st.sampled_from(FLOATS))
                struct.pack_into(file.order + "f", file.raw, at, value)
            case "byte":
                file.raw[draw(st.integers(0, 223))] = draw(st.integers(0, 255))
            case "longer":
                byte = draw(st.sampled_from([0, 0, 77]))
                file.raw += bytes([byte]) * draw(st.sampled_from([1, 80, 512, 1024]))
            case "shorter":
                del file.raw[-draw(st.sampled_from([1, 4, 48, 80, 1024])) :]
    return file, times


def expected(file):
    """The pixels ``(z, y, x)`` that the file has by its header; None where that must be refused."""
    order, raw = file.order, bytes(file.raw)
    if len(raw) < 1024:
        return None
    shape = [number(order, raw, at) for at in (8, 4, 0)]
    mode, group, deep = (number(order, raw, at) for at in (12, 88, 36))
    if min(shape) < 1 or mode not in TYPES or (401 <= group <= 630 and deep != shape[0]):
        return None
    dtype = np.dtype(order + TYPES[mode])
    columns = shape[2]
    if mode == 101:
        shape[2] = (columns + 1) // 2
    count = int(np.prod(shape, dtype=object))
    room, stated = len(raw) - 1024 - count * dtype.itemsize, number(order, raw, 92)
    begin = 1024 + stated if room == stated else file.begin
    if room < 0 or begin + count * dtype.itemsize > len(raw):
        return None
    values = np.frombuffer(raw, dtype, count, begin).reshape(shape)
    low, high = number(order, raw, 76, "f"), number(order, raw, 80, "f")
    known = bool(np.isfinite([low, high]).all() and low <= high and not low == high == 0)
    four = mode == 0 and number(order, raw, 152) == IMOD and number(order, raw, 156) & 16
    if four and number(order, raw, 156) & 1:
        return None
    if mode == 101 or four:
        values = unpacked(values.view("u1"), columns if mode == 101 else 2 * columns)
    elif mode == 0:
        values = as_bytes(raw, order, values, low, high, known)
    elif mode in (1, 6) and known:
        # A range that only the other sign has, and that its values have to the last.
        fits = {"i": low >= -(2**15) and high < 2**15, "u": low >= 0 and high < 2**16}
        other = values.view(order + ("u2" if mode == 1 else "i2"))
        if fits[other.dtype.kind] and not fits[values.dtype.kind]:
            values = other if (other.min(), other.max()) == (low, high) else values
    columns, rows, sections = (number(order, raw, at) for at in (64, 68, 72))
    if (columns, rows, sections) == (0, 0, 0):
        return values
    if values is None or sorted((columns, rows, sections)) != [1, 2, 3]:
        return None
    stored = [3 - sections, 3 - rows, 3 - columns]  # places in (z, y, x) of the stored axes
    return np.moveaxis(values, (0, 1, 2), stored)


def as_bytes(raw, order, values, low, high, known):
    if number(order, raw, 152) == IMOD:
        flags = number(order, raw, 156)
        return values.astype(int) + 128 if flags & 1 else values.view("u1")
    if known and low >= 0 and high <= 255:
        beyond = high <= 127 and values.min() < 0  # of either sign
        return None if beyond else values.view("u1")
    if known and low >= -128 and high <= 127:
        return values
    if values.min() >= 0:
        return values
    return values if number(order, raw, 108) >= 20140 else None


def mrcfile_reads(path, file):
    """What mrcfile reads, where it goes by the same rules; None elsewhere."""
    order, raw = file.order, bytes(file.raw)
    mode, stated = number(order, raw, 12), number(order, raw, 92)
    size = [number(order, raw, at) for at in (0, 4, 8)]
    axes = [number(order, raw, at) for at in (64, 68, 72)]
    low, high = number(order, raw, 76, "f"), number(order, raw, 80, "f")
    odd = mode in (1, 6) and not (low >= 0 and high < 2**15)
    stamp = b"\x44\x44" if order == "<" else b"\x11\x11"
    if mode not in (1, 2, 6, 12) or odd or axes != [1, 2, 3] or raw[212:214] != stamp:
        return None
    width = np.dtype(TYPES[mode]).itemsize
    if len(raw) != 1024 + stated + int(np.prod(size, dtype=object)) * width:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as mrc:
            return None if mrc.data is None else mrc.data.reshape(size[::-1]).copy()


def attempt(path):
    """The file, or why it is refused."""
    try:
        return open_mrc(path), ""
    except InputError as error:
        return None, str(error)


@settings(
    max_examples=2000,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=damaged())
def test_the_right_pixels_or_an_error_that_says_why(tmp_path, case):
    file, times = case
    note(f"{len(file.raw)} bytes, pixels of {file.order} from {file.begin} on")
    path = tmp_path / "a.mrc"
    path.unlink(missing_ok=True)  # what is mapped stays
    path.write_bytes(file.raw)
    source, refusal = attempt(path)
    if source is None:
        assert times, f"a valid file is refused: {refusal}"
        assert str(path) in refusal
        return
    with np.errstate(all="ignore"):
        found = source.read(Box((0, 0, 0), source.shape))
    right = expected(file)
    assert right is not None, "read, though it has no meaning"
    np.testing.assert_array_equal(found, right.astype(np.float32))
    other = mrcfile_reads(path, file)
    if other is not None:
        np.testing.assert_array_equal(found, other.astype(np.float32))
