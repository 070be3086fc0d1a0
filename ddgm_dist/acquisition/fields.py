"""Dark and flat fields of a source: where they come from, and what they say of each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import Reference
from ddgm_dist.acquisition.reference_files import read_field
from ddgm_dist.acquisition.source import Source
from ddgm_dist.acquisition.survey import mean_frame
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.provenance import Provenance

__all__ = ["Fields", "describe_field", "find_fields"]


@dataclass(frozen=True)
class Fields:
    """The fields of a source; None where there is none.

    Attributes
    ----------
    dark, flat
        To be subtracted, and to be divided by.
    dark_from, flat_from
        The file or option that they come from.
    """

    dark: Reference | None = None
    flat: Reference | None = None
    dark_from: str = ""
    flat_from: str = ""

    @property
    def mean_dark(self) -> float:
        """Value without a beam, on average over the pixels."""
        return 0.0 if self.dark is None else float(np.nanmean(self.dark.value))

    @property
    def empty(self) -> float | NDArray[np.float32]:
        """Value without a beam, or one for each pixel; NaN where the fields say nothing of a beam."""
        dark = 0.0 if self.dark is None else self.dark.value
        images = [dark] if self.flat is None else [dark, self.flat.value]
        if not any(isinstance(image, np.ndarray) for image in images):
            return dark
        alive = self._alive()
        return np.where(alive, np.broadcast_to(dark, alive.shape), np.nan).astype(np.float32)

    @property
    def dead(self) -> int:
        """Number of pixels of the fields that say nothing of a beam."""
        alive = self._alive()
        return int(alive.size - np.count_nonzero(alive))

    def _alive(self) -> NDArray[np.bool_]:
        dark = np.zeros(()) if self.dark is None else np.asarray(self.dark.value)
        good = np.isfinite(dark)
        if self.flat is not None:
            flat = np.asarray(self.flat.value)
            good = good & np.isfinite(flat) & (flat > dark)
        return np.asarray(good)


def find_fields(source: Source, options: IngestOptions, record: Provenance) -> Fields:
    """The dark and the flat field, by the options and the source.

    Parameters
    ----------
    source, options
        The source and the options of the ingest.
    record
        Takes what is not used.

    Raises
    ------
    InputError
        A file cannot be read or does not fit the images or their order of rows. The flat field is
        nowhere above the dark one, or another option says what the beam is.
    """
    dark, dark_from = _dark(source, options, record)
    flat, flat_from = _flat(source, options, record)
    if flat is not None and options.flat is not None:
        empty = 0.0 if dark is None else dark.value
        if not np.any(np.asarray(flat.value) > np.asarray(empty)):
            raise InputError(
                "flat",
                describe_field(flat),
                "is nowhere above the dark field, so it says nothing of a beam",
            )
    return Fields(dark, flat, dark_from, flat_from)


def describe_field(field: Reference) -> str:
    """A field for the table: its number, or the mean of its image."""
    if isinstance(field.value, np.ndarray):
        return f"image, mean {float(np.nanmean(field.value)):.5g}"
    return f"{field.value:.5g}"


def _dark(
    source: Source, options: IngestOptions, record: Provenance
) -> tuple[Reference | None, str]:
    """The dark field, and where it comes from."""
    given = options.dark
    if isinstance(given, Path):
        return read_field(given, source, "dark", record), given.name
    if given is not None:
        return _number("dark", given), "--dark"
    if source.dark is not None and options.counts != "none":
        return Reference(mean_frame(source.dark)), f"mean of {source.dark.shape[0]} dark frames"
    if source.dark_level:
        return _number("dark", source.dark_level), Path(source.path).name
    return None, ""


def _flat(
    source: Source, options: IngestOptions, record: Provenance
) -> tuple[Reference | None, str]:
    """The flat field, and where it comes from."""
    given = options.flat
    beam = isinstance(options.counts, int | float | Path)
    if given is not None and beam:
        raise InputError(
            "flat", str(given), "is what the beam makes, and so is --counts: give one of them"
        )
    if isinstance(given, Path):
        return read_field(given, source, "flat", record), given.name
    if given is not None:
        return _number("flat", given), "--flat"
    if source.flat is None:
        return None, ""
    if beam:
        record.skip("flat frames of the source", "--counts says what the beam is")
        return None, ""
    if options.counts in (None, "auto"):
        return Reference(mean_frame(source.flat)), f"mean of {source.flat.shape[0]} flat frames"
    return None, ""


def _number(argument: str, value: float) -> Reference:
    if not abs(value) <= float(np.finfo(np.float32).max):
        raise InputError(argument, value, "must be a number of float32", "leave it out for none")
    return Reference(float(value))
