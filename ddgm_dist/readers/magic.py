"""Formats of files by their first bytes, for those that bear another format's name."""

from __future__ import annotations

from pathlib import Path

__all__ = ["head_of", "mislabelled"]

_GUNZIP = ("is compressed by gzip", "gunzip it first")
_TIFF = ("is a TIFF file", "give it the suffix .tif")
_NAMES = {
    b"\x1f\x8b\x08": _GUNZIP,
    b"BZh": ("is compressed by bzip2", "bunzip2 it first"),
    b"\xfd7zXZ": ("is compressed by xz", "unxz it first"),
    b"\x28\xb5\x2f\xfd": ("is compressed by zstd", "unzstd it first"),
    b"PK\x03\x04": ("is a ZIP archive, as .npz files are", "unzip it, or name it .npz"),
    b"\x89HDF": ("is an HDF5 file", "give it the suffix .h5"),
    b"\x93NUMPY": ("is a NumPy array", "give it the suffix .npy"),
    b"\x89PNG\r\n": ("is a PNG image", "give it the suffix .png"),
    b"\xff\xd8\xff": ("is a JPEG image", "convert it to TIFF"),
    b"II*\0": _TIFF,
    b"MM\0*": _TIFF,
    b"II+\0": _TIFF,
    b"MM\0+": _TIFF,
    b"II\x97\x01": ("is a TIA series (.ser)", "convert it to MRC or TIFF"),
    b"\0\0\0\x03": ("is a file of DigitalMicrograph (.dm3)", "export it as MRC or TIFF"),
    b"\0\0\0\x04": ("is a file of DigitalMicrograph (.dm4)", "export it as MRC or TIFF"),
}


def mislabelled(head: bytes, *expected: bytes) -> tuple[str, str] | None:
    """Reason and advice for a file of another format than its name says.

    Parameters
    ----------
    head
        Its first bytes, eight or more.
    expected
        First bytes that the format of its name has.

    Returns
    -------
    tuple
        A clause on the format and what to do; None if the format is not known, or as expected.
    """
    for magic, (why, hint) in _NAMES.items():
        if head.startswith(magic) and magic not in expected:
            return f"{why}, whatever its name", hint
    if head[208:212] == b"MAP " and len(head) >= 212:
        return "is an MRC file, whatever its name", "give it the suffix .mrc"
    return None


def head_of(path: Path) -> bytes:
    """The first bytes of a file, as many as `mislabelled` looks at; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(212)
    except OSError:
        return b""
