"""Sizes and durations: written for people, and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.core.units import format_bytes, format_duration, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("8GiB", 8 * 2**30),
        ("8Gi", 8 * 2**30),
        ("512m", 512 * 2**20),
        ("1.5 g", 3 * 2**29),
        ("2GB", 2 * 10**9),
        ("3KB", 3000),
        (" 1 TiB ", 2**40),
        ("100b", 100),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0.1", "-1g", "8 gallons", "GiB", "1.2.3g", "nan", "5ib", "1e9"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@given(st.integers(1, 2**44))
def test_a_size_that_is_written_can_be_read(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == pytest.approx(size, rel=1e-3)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1536, "1.5 KiB"),
        (310 * 2**20, "310 MiB"),
        (2**30 - 2**20, "1023 MiB"),
        (7.25 * 2**30, "7.25 GiB"),
        (3 * 2**40, "3 TiB"),
    ],
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0123, "0.012 s"),
        (2.49, "2.5 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (27000, "7 h 30 min"),
        (90000, "1 d 1 h"),
        (float("inf"), "unknown"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
