"""All that decides on the pixels of an ingest: the source's files, the options, and what follows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from ddgm_dist.acquisition.layout import Layout
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import PreparedViews, Reference
from ddgm_dist.acquisition.source import Source
from ddgm_dist.acquisition.source_state import source_states
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.metadata import TiltSeriesMeta

__all__ = ["Recipe", "files_of"]

# Counts up whenever the same source and the same decisions give other pixels.
_VERSION = 2


class Recipe:
    """The files that an ingest reads, as they are when this is made, and its options."""

    def __init__(self, source: Source, options: IngestOptions) -> None:
        self._source, self._options = source, options
        self._states = self._now()

    @property
    def is_known(self) -> bool:
        """False for an object store, of whose objects nothing is known."""
        return self._states is not None

    def digest(self, layout: Layout, views: PreparedViews, meta: TiltSeriesMeta) -> str | None:
        """Digest of the source's files and of all that decides what is written; None if unknown.

        What follows from files and options is taken in too. Another release may decide otherwise.

        Parameters
        ----------
        layout
            Where each pixel goes.
        views
            Views with their beams, fields and thresholds. Their source is known by its files.
        meta
            Metadata of the series; where they come from does not matter.

        Raises
        ------
        InputError
            The source was changed since this was made.
        """
        if self._states is None:
            return None
        if self._now() != self._states:
            raise InputError(
                "source",
                self._source.path,
                "was changed while it was being read",
                "wait until it is whole, then run the same command again",
            )
        # What is refused with --strict is the same without it.
        options = replace(self._options, strict=False)
        decided = [repr(layout), *_decided(views), repr(replace(meta, provenance=None))]
        values = [self._states, self._source.path, repr(options), decided, _VERSION]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def _now(self) -> str | None:
        return source_states(_read_by(self._source, self._options), self._source.path)


def _decided(views: PreparedViews) -> list[str]:
    """All values of the views but the source, as text; images by their digests."""
    values = ((f.name, getattr(views, f.name)) for f in fields(views) if f.name != "stack")
    return [f"{name}={_text(value)}" for name, value in values]


def _text(value: object) -> str:
    if isinstance(value, Reference) and isinstance(value.value, np.ndarray):
        image = np.ascontiguousarray(value.value, dtype="<f4")
        return f"{image.shape} {hashlib.sha256(image.tobytes()).hexdigest()}"
    return repr(value)


def _read_by(source: Source, options: IngestOptions) -> list[Path]:
    """All files and folders that an ingest reads; empty for an object store alone."""
    given = (options.angles, options.xf, options.counts, options.dark, options.flat)
    return [*files_of(source), *(f for f in given if isinstance(f, Path))]


def files_of(source: Source) -> list[Path]:
    """All files of a source, and those beside it that are read."""
    beside = [] if source.companions is None else source.companions.files
    described = [] if source.mdoc is None else [source.mdoc.path]
    return [*source.files, *beside, *described]
