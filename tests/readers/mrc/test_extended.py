"""Tilt angles in extended headers, written as the formats' descriptions have it."""

import struct

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mrcfile.dtypes import get_ext_header_dtype

from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc.extended import extended_angles
from ddgm_dist.readers.mrc.header import read_header

ANGLES = [-60.0, -3.25, 0.0, 45.5]
ORDERS = ["<", ">"]


def write(path, kind, extended, numbers=(0, 0), order="<", images=4, mode=1):
    """A small stack with an extended header."""
    header = bytearray(1024)
    struct.pack_into(f"{order}4i", header, 0, 5, 3, images, mode)
    struct.pack_into(f"{order}3i3f", header, 28, 5, 3, images, 5, 3, images)
    struct.pack_into(f"{order}3i3f", header, 64, 1, 2, 3, 0, -1, -2)
    struct.pack_into(f"{order}i", header, 92, len(extended))
    header[104:108] = kind.encode().ljust(4, b"\0")
    struct.pack_into(f"{order}i2h", header, 108, 20140, 0, 0)
    struct.pack_into(f"{order}2h", header, 128, *numbers)
    header[208:216] = b"MAP " + (b"DD\0\0" if order == "<" else b"\x11\x11\0\0")
    path.write_bytes(bytes(header) + extended + bytes(15 * images * (1 + (mode == 1))))
    return path


def read(path):
    return extended_angles(path, read_header(path, path.stat().st_size))


def serial(order, angles=ANGLES, flags=1 | 2 | 8):
    """Shorts of SerialEM: tilt angle, piece coordinates, magnification, where the flags have them."""
    rows = []
    for i, angle in enumerate(angles):
        row = [round(angle * 100)] * (flags & 1) + [7, 8, i] * (flags >> 1 & 1)
        rows.append(struct.pack(f"{order}{len(row)}h", *row) + struct.pack(f"{order}h", 990))
    return b"".join(rows), (len(rows[0]), flags)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["SERI", ""])
@pytest.mark.parametrize("mode", [0, 1])
def test_angles_of_serialem(tmp_path, kind, order, mode):
    extended, numbers = serial(order)
    path = write(tmp_path / "a.mrc", kind, extended + bytes(100), numbers, order, mode=mode)
    assert read(path) == tuple(ANGLES)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("kind", "integers", "reals"), [("AGAR", 3, 2), ("AGAR", 0, 32), ("", 0, 32)]
)
def test_angles_of_agard_and_of_old_fei_programs(tmp_path, kind, integers, reals, order):
    row = struct.Struct(f"{order}{integers}i{reals}f")
    extended = b"".join(row.pack(*range(integers), a, *range(1, reals)) for a in ANGLES)
    path = write(tmp_path / "a.mrc", kind, extended + bytes(999), (integers, reals), order)
    assert read(path) == tuple(ANGLES)


def thermo_fisher(kind, order, mask=(1 << 7) | (1 << 14), version=b"5.1"):
    dtype = get_ext_header_dtype(kind.encode(), order)
    blocks = np.zeros(len(ANGLES), dtype)
    blocks["Metadata size"], blocks["Application version"] = dtype.itemsize, version
    blocks["Alpha tilt"], blocks["Beta tilt"], blocks["Pixel size X"] = ANGLES, 3.0, 1.35e-10
    raw = bytearray(blocks.tobytes())
    for i in range(len(ANGLES)):
        struct.pack_into(f"{order}I", raw, i * dtype.itemsize + 8, mask)
    return bytes(raw)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["FEI1", "FEI2"])
def test_angles_and_pixels_of_thermo_fisher(tmp_path, kind, order):
    path = write(tmp_path / "a.mrc", kind, thermo_fisher(kind, order), order=order)
    assert read(path) == tuple(ANGLES)
    if order == "<":
        with mrcfile.open(path, permissive=True) as file:
            assert read(path) == tuple(file.indexed_extended_header["Alpha tilt"])


def test_the_version_that_wrote_degrees_twice_is_corrected(tmp_path):
    path = write(tmp_path / "a.mrc", "FEI1", thermo_fisher("FEI1", "<", version=b"4.4.0.4981"))
    assert read(path) == pytest.approx(np.radians(ANGLES))


@pytest.mark.parametrize(
    ("kind", "extended", "numbers"),
    [
        ("", b"", (0, 0)),
        ("CCP4", bytes(80), (0, 0)),
        ("SERI", *serial("<", flags=2 | 8)),  # no angles
        ("SERI", serial("<")[0], (11, 11)),  # flags and bytes do not agree
        ("SERI", *serial("<", [0.0] * 4)),  # not recorded
        ("", bytes(640), (3, 2)),  # who knows
        ("FEI1", bytes(10), (0, 0)),
        ("AGAR", bytes(640), (0, 0)),
    ],
)
def test_headers_without_angles_have_none(tmp_path, kind, extended, numbers, caplog):
    path = write(tmp_path / "a.mrc", kind, extended, numbers)
    assert read(path) is None
    assert not caplog.text


def test_too_few_or_impossible_angles_are_not_used_and_named(tmp_path, caplog):
    extended, numbers = serial("<")
    path = write(tmp_path / "a.mrc", "SERI", extended, numbers, images=5)
    assert read(path) is None
    assert "has tilt angles of 4 images of 5" in caplog.text
    path = write(tmp_path / "b.mrc", "AGAR", np.full(4, 1e6, "<f4").tobytes(), (0, 1))
    assert read(path) is None
    assert "b.mrc: the tilt angles in its extended header are none" in caplog.text


def test_a_file_that_ends_within_its_extended_header_is_refused(tmp_path):
    extended, numbers = serial("<")
    path = write(tmp_path / "a.mrc", "SERI", extended, numbers)
    header = read_header(path, path.stat().st_size)
    path.write_bytes(path.read_bytes()[:1030])
    with pytest.raises(InputError, match="within its extended header, after 6 of 40 bytes"):
        extended_angles(path, header)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["SERI", "AGAR", "FEI1", "FEI2", ""]),
    numbers=st.tuples(st.integers(-5, 2100), st.integers(-5, 2100)),
    extended=st.binary(max_size=1000),
    order=st.sampled_from(ORDERS),
)
def test_any_bytes_give_all_angles_or_none(tmp_path, kind, numbers, extended, order):
    path = write(tmp_path / "a.mrc", kind, extended, numbers, order)
    angles = read(path)
    assert angles is None or (len(angles) == len(ANGLES) and np.all(np.abs(angles) <= 180))
