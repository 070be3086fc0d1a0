"""The states of unfinished tiles, as generations: Zarr arrays of one chunk per tile column and block.

The state of a tile after n iterations is its estimate times its blending window, over the window's
support. *Generation* n is the state of all tiles after n iterations. It is a Zarr array
``ddgm_dist/generations/<problem>/<n>`` of shape ``(column of tiles, z, y, support)``. It has crc32c and
no compression, as noise does not compress. The problem and n fix the content of a chunk, so it does
not matter which worker writes it, how often, or how late. They fix the array's metadata too: these are
written for people and never read.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from ddgm_dist.errors import DdgmError, StorageError
from ddgm_dist.paths.claim import SIDECAR
from ddgm_dist.paths.files import delete, write_bytes
from ddgm_dist.paths.forks import used
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.object_store import kvstore_spec, strip_http_body
from ddgm_dist.paths.place import Place
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.volumes.layout import block_digest

__all__ = [
    "GENERATIONS",
    "CheckpointDamagedError",
    "CheckpointLayout",
    "Generation",
    "GenerationStore",
]

GENERATIONS = "generations"
# tensorstore's errors that say nothing about what is stored begin so.
_PASSING = (
    "UNAVAILABLE",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "CANCELLED",
)
# Generations whose arrays stay open.
_OPEN = 8
# Chunks that are read or written at a time: more would only take memory.
_IN_FLIGHT = 4


class CheckpointDamagedError(DdgmError):
    """A committed chunk is missing, or differs from the recorded one.

    Attributes
    ----------
    iteration
        Iterations done in its generation.
    chunk
        Key of the chunk.
    why
        The reason, as a clause.
    """

    def __init__(self, iteration: int, chunk: str, why: str) -> None:
        self.iteration, self.chunk, self.why = iteration, chunk, why
        super().__init__(f"checkpoint of iteration {iteration}, chunk {chunk}: {why}")

    def __reduce__(self) -> tuple[type, tuple[int, str, str]]:
        return type(self), (self.iteration, self.chunk, self.why)


@dataclass(frozen=True)
class Generation:
    """State after ``iteration`` iterations, with the digest of each chunk."""

    iteration: int
    digests: Mapping[str, str]


@dataclass(frozen=True)
class CheckpointLayout:
    """Shape of a generation; it depends on the problem alone, so runs with other tiles can read it.

    Attributes
    ----------
    columns
        Number of tiles along x, counted over all samples.
    depth, rows
        Extent of the volume along z and y, voxels.
    support
        Columns of the widest blending window.
    block
        Rows per chunk: ``rows_per_call``.
    """

    columns: int
    depth: int
    rows: int
    support: int
    block: int

    def keys(self, column: int, start: int, stop: int) -> list[str]:
        """Chunks of a tile column that hold the rows ``[start, stop)``."""
        first, last = start // self.block, -(-stop // self.block)
        return [f"{column}/{block}" for block in range(first, last)]


class GenerationStore:
    """Reads and writes the generations of one problem in an output store.

    Parameters
    ----------
    out
        Place of the output store.
    layout
        Shape of a generation.
    problem
        Hash of the problem; generations of other problems are not seen.
    """

    def __init__(self, out: Place, layout: CheckpointLayout, problem: str) -> None:
        self.layout = layout
        self._folder = out / SIDECAR / problem_dir(GENERATIONS, problem)
        self._arrays: dict[int, Any] = {}
        self._described: set[int] = set()
        # Iteration and chunk of what was found damaged, here or by a worker that reported it.
        self._damaged: set[tuple[int, str]] = set()
        self._lock = threading.Lock()
        # No cache: chunks are read once and written whole.
        self._context = ts.Context({"file_io_concurrency": {"limit": 4}})

    def write(
        self, iteration: int, column: int, first_row: int, state: NDArray[np.float32]
    ) -> dict[str, str]:
        """Write the state of a tile; returns once it is on disk.

        Parameters
        ----------
        iteration
            Number of iterations done.
        column
            Index of the tile column.
        first_row
            First row of the tile, a multiple of the block.
        state
            Float32 ``(z, rows, columns of the window)``.

        Returns
        -------
        dict
            Digest of each chunk by its key.

        Raises
        ------
        StorageError
            The disk is full or fails.
        """
        layout, array = self.layout, self._open(iteration)
        self._describe(iteration)
        depth, rows, width = state.shape
        digests: dict[str, str] = {}
        waiting: deque[Any] = deque()
        try:
            for first in range(0, rows, layout.block):
                part = state[:, first : first + layout.block]
                # Whole chunks, so that none is read before it is written.
                chunk = np.zeros((depth, layout.block, layout.support), np.float32)
                chunk[:, : part.shape[1], :width] = part
                y = first_row + first
                (key,) = layout.keys(column, y, y + 1)
                digests[key] = block_digest(chunk)
                waiting.append(array[column, :, y : y + layout.block].write(chunk))
                if len(waiting) >= _IN_FLIGHT:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        except (ValueError, OSError) as error:
            raise write_error(self._folder, state.nbytes, error) from error
        self._damaged -= {(iteration, key) for key in digests}
        return digests

    def read(
        self,
        generation: Generation,
        column: int,
        start: int,
        stop: int,
        columns: slice = slice(None),
    ) -> NDArray[np.float32]:
        """State of a tile column over the rows ``[start, stop)``, checked against its digests.

        Parameters
        ----------
        generation
            The generation to read, with the digests.
        column
            Index of the tile column.
        start, stop
            First row, and the one after the last.
        columns
            Columns of the support, with explicit bounds; all by default.

        Returns
        -------
        ndarray
            Float32 ``(z, stop - start, columns)``.

        Raises
        ------
        CheckpointDamagedError
            A chunk is missing, unreadable or not the recorded one.
        """
        layout, array = self.layout, self._open(generation.iteration)
        left, right, _ = columns.indices(layout.support)
        keys = layout.keys(column, start, stop)
        out = np.empty((layout.depth, stop - start, right - left), np.float32)
        waiting: deque[tuple[str, int, Any]] = deque()

        def take() -> None:
            key, y, read = waiting.popleft()
            chunk = self._checked(generation, key, read)
            first, last = max(y, start), min(y + layout.block, stop)
            out[:, first - start : last - start] = chunk[:, first - y : last - y, left:right]

        for key in keys:
            y = int(key.split("/")[1]) * layout.block
            waiting.append((key, y, array[column, :, y : y + layout.block].read()))
            if len(waiting) >= _IN_FLIGHT:
                take()
        while waiting:
            take()
        return out

    def _checked(self, generation: Generation, key: str, read: Any) -> NDArray[np.float32]:
        """Wait for a chunk that is being read, and compare it with its digest."""
        iteration, why = generation.iteration, ""
        try:
            chunk: NDArray[np.float32] = read.result()
        except (ValueError, OSError) as error:
            reason = strip_http_body(error)
            if reason.startswith(_PASSING):  # a later attempt may succeed: nothing is lost yet
                raise StorageError(
                    f"reading chunk {key} of checkpoint {iteration} failed: {reason}"
                ) from None
            why = f"unreadable: {reason}"
        else:
            if key in generation.digests and block_digest(chunk) != generation.digests[key]:
                lost = bool(np.isnan(chunk).all())
                why = "it is missing" if lost else "its content is not what was written"
        if why:
            self.damaged(iteration, key)
            raise CheckpointDamagedError(iteration, key, why)
        return chunk

    def damaged(self, iteration: int, chunk: str) -> None:
        """Remember a damaged chunk, so that an older generation may replace its own in a record."""
        self._damaged.add((iteration, chunk))

    def _metadata(self) -> dict[str, Any]:
        """Zarr metadata of a generation's array."""
        layout = self.layout
        rows = -(-layout.rows // layout.block) * layout.block
        chunk = [1, layout.depth, layout.block, layout.support]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "attributes": {},
            "shape": [layout.columns, layout.depth, rows, layout.support],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "data_type": "float32",
            "fill_value": "NaN",
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "crc32c"},
            ],
            "dimension_names": ["tile", "z", "y", "x"],
        }

    def _describe(self, iteration: int) -> None:
        """Write a generation's metadata, once per process; every process writes the same."""
        if iteration in self._described:
            return
        text = json.dumps(self._metadata(), indent=1).encode()
        try:
            write_bytes(self._folder / str(iteration) / "zarr.json", text)
        except OSError as error:
            raise write_error(self._folder, len(text), error) from error
        self._described.add(iteration)

    def _open(self, iteration: int) -> Any:
        """The open array of a generation; opening it neither reads nor writes."""
        used()  # before each use of it: it may have been opened before a fork
        with self._lock:
            if iteration not in self._arrays:
                self._arrays[iteration] = ts.open(
                    {
                        "driver": "zarr3",
                        "kvstore": kvstore_spec(self._folder / str(iteration)),
                        "metadata": self._metadata(),
                        "store_data_equal_to_fill_value": True,
                    },
                    open=True,
                    # They follow from the problem, so there is nothing to read that could be damaged.
                    assume_metadata=True,
                    read=True,
                    write=True,
                    context=self._context,
                ).result()
            array = self._arrays[iteration]
            while len(self._arrays) > _OPEN:
                del self._arrays[next(iter(self._arrays))]
            return array

    def drop(self, iteration: int, chunks: Iterable[str]) -> None:
        """Delete chunks; those that cannot be deleted only take room."""
        for key in chunks:
            column, block = key.split("/")
            path = self._folder / str(iteration) / "c" / column / "0" / block / "0"
            with contextlib.suppress(OSError, StorageError):
                delete(path)
