"""Everything that decides on the pixels of an ingest: the source's files, and the options."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from ddgm_dist.acquisition.layout import Layout
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.source import Source
from ddgm_dist.acquisition.source_state import source_states
from ddgm_dist.errors import InputError

__all__ = ["Recipe", "files_of"]

# Changes whenever the same source and options give other pixels.
_VERSION = 1


class Recipe:
    """The files that an ingest reads, as they are when this is made, and its options."""

    def __init__(self, source: Source, options: IngestOptions) -> None:
        self._source, self._options = source, options
        self._states = self._now()

    @property
    def is_known(self) -> bool:
        """False for an object store, of whose objects nothing is known."""
        return self._states is not None

    def digest(self, layout: Layout) -> str | None:
        """Digest of the source's files and of all that decides what is written; None if unknown.

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
        values = [self._states, self._source.path, repr(options), repr(layout), _VERSION]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def _now(self) -> str | None:
        return source_states(_read_by(self._source, self._options), self._source.path)


def _read_by(source: Source, options: IngestOptions) -> list[Path]:
    """All files and folders that an ingest reads; empty for an object store alone."""
    given = (options.angles, options.xf, options.counts, options.dark, options.flat)
    return [*files_of(source), *(f for f in given if isinstance(f, Path))]


def files_of(source: Source) -> list[Path]:
    """All files of a source, and those beside it that are read."""
    beside = [] if source.companions is None else source.companions.files
    described = [] if source.mdoc is None else [source.mdoc.path]
    return [*source.files, *beside, *described]
