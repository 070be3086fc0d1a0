"""Small measured data that come with the package; README.md beside this file describes them."""

from pathlib import Path

from ddgm_dist.errors import InputError

__all__ = ["sample_path"]

_FILES = {"needle": "needle.npz"}


def sample_path(name: str) -> Path:
    """Path of a sample, an ``.npz`` that `ddgm_dist.acquisition.ingest.ingest` takes as its source.

    Parameters
    ----------
    name
        ``needle``: HAADF-STEM tilt series of a layered needle, 77 tilts x 32 rows x 160 columns.

    Raises
    ------
    InputError
        If there is no sample of that name.
    """
    if name not in _FILES:
        raise InputError("sample", name, f"must be one of {sorted(_FILES)}")
    return Path(__file__).with_name(_FILES[name])
