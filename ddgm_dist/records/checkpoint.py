"""Checkpoints of unfinished tiles: generations of state in Zarr, and commit records written last.

The state of a tile after n iterations is its estimate times its blending window, over the window's
support. *Generation* n is the state of all tiles after n iterations: a Zarr array
``ddgm_dist/generations/<problem>/<n>`` of shape ``(column of tiles, z, y, support)`` in chunks of one
tile column and one block of rows, with crc32c (noise does not compress). What a chunk of generation n
holds is fixed by the problem and n, so it never matters who wrote it, how often, or how late: a
worker that was given up may go on writing without harm. The array's metadata are fixed too: they are
written for people, and never read.

A *commit record* ``ddgm_dist/commits/<problem>/<unit>.json`` says which generations are whole: the
digest of every chunk, of the newest generation and the one before. It is replaced after the last
chunk is on disk, so a record never speaks of what is not there; and only if it is still the one that
was looked at, so that nobody undoes what another has recorded in between. Chunks older than the
previous generation are deleted after that. A chunk that is missing, damaged or not the recorded one
raises `CheckpointDamagedError`; the run then goes on from the generation before. A record that is
damaged counts for nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
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
from ddgm_dist.records.damage import RecordDamagedError, log_damage
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.volumes.layout import block_digest

__all__ = ["CheckpointDamagedError", "CheckpointLayout", "Checkpoints", "Generation"]

GENERATIONS, COMMITS = "generations", "commits"
_KEPT = 2
_KEY = re.compile(r"\d+/\d+")
# How tensorstore's errors begin that say nothing of what is stored.
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
# Chunks on their way at a time: more would only take memory.
_IN_FLIGHT = 4


class CheckpointDamagedError(DdgmError):
    """A committed chunk is missing or not what was recorded.

    Attributes
    ----------
    iteration
        Of the generation.
    chunk
        Its key.
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
    """Shape of a generation; fixed by the problem, so that other cuts along y can read it.

    Attributes
    ----------
    columns
        Tiles along x, those of all samples counted.
    depth, rows
        Of the volume, voxels.
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


class Checkpoints:
    """Generations and commit records of one output store.

    Parameters
    ----------
    out
        The output store.
    layout
        Of the generations.
    problem
        Hash of the problem; what is another one's is not seen.
    """

    def __init__(self, out: Place, layout: CheckpointLayout, problem: str) -> None:
        self.record, self.layout, self.problem = RunRecord(out), layout, problem
        self._folder = out / SIDECAR / problem_dir(GENERATIONS, problem)
        self._commits = problem_dir(COMMITS, problem)
        self._arrays: dict[int, Any] = {}
        self._described: set[int] = set()
        # Iteration and chunk of what was found damaged, here or by a worker who told.
        self._damaged: set[tuple[int, str]] = set()
        self._lock = threading.Lock()
        # No cache: chunks are read once and written whole.
        self._context = ts.Context({"file_io_concurrency": {"limit": 4}})

    # -- chunks ---------------------------------------------------------------------------------

    def write(
        self, iteration: int, column: int, first_row: int, state: NDArray[np.float32]
    ) -> dict[str, str]:
        """Write the state of a tile; returns once it is on disk.

        Parameters
        ----------
        iteration
            Iterations done.
        column
            Of tiles.
        first_row
            A multiple of the block.
        state
            Float32 ``(z, rows, columns of the window)``.

        Returns
        -------
        dict
            Digest by chunk.

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
            Which.
        column
            Of tiles.
        start, stop
            Rows.
        columns
            Of the support, with explicit bounds; all by default.

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
        """A chunk that was read, if it is the recorded one."""
        iteration, why = generation.iteration, ""
        try:
            chunk: NDArray[np.float32] = read.result()
        except (ValueError, OSError) as error:
            reason = strip_http_body(error)
            if reason.startswith(_PASSING):  # it may be read a moment later: nothing is lost yet
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
        """Take note of a damaged chunk: an older generation may replace its own in a record."""
        self._damaged.add((iteration, chunk))

    def _metadata(self) -> dict[str, Any]:
        """Of a generation's array."""
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
        """Write a generation's metadata, once; everybody writes the same."""
        if iteration in self._described:
            return
        text = json.dumps(self._metadata(), indent=1).encode()
        try:
            write_bytes(self._folder / str(iteration) / "zarr.json", text)
        except OSError as error:
            raise write_error(self._folder, len(text), error) from error
        self._described.add(iteration)

    def _open(self, iteration: int) -> Any:
        """The array of a generation; nothing is read or written yet."""
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
                    # They follow from the problem: there is nothing to ask for, and to be damaged.
                    assume_metadata=True,
                    read=True,
                    write=True,
                    context=self._context,
                ).result()
            array = self._arrays[iteration]
            while len(self._arrays) > _OPEN:
                del self._arrays[next(iter(self._arrays))]
            return array

    # -- commit records -------------------------------------------------------------------------

    def commit(self, unit: str, generation: Generation) -> list[Generation]:
        """Record that a generation of a unit is whole, and drop what it makes dispensable.

        Nothing is recorded if a newer one is there that is not known to be damaged: who was taken
        for lost, and so comes late, does not undo what others have done since.

        Parameters
        ----------
        unit, generation
            Which.

        Returns
        -------
        list
            What was dropped.
        """
        dropped: list[Generation] = []

        def newer(record: Any) -> dict[str, Any] | None:
            there: list[Generation] = []
            with log_damage():
                there = self._told(unit, record)
            if there[:1] == [generation]:
                return None  # the answer to our own write was lost: what it makes dispensable is
            dropped.clear()
            if any(g.iteration >= generation.iteration and self._is_sound(g) for g in there):
                return None
            known = [g for g in there if g.iteration < generation.iteration]
            dropped.extend(known[_KEPT - 1 :])
            return {
                "problem": self.problem,
                "time": time.time(),
                "generations": [
                    {"iteration": g.iteration, "digests": dict(g.digests)}
                    for g in [generation, *known][:_KEPT]
                ],
            }

        self.record.update_json(f"{self._commits}/{unit}", newer)
        for old in dropped:
            self.drop(old.iteration, old.digests)
        return dropped

    def _is_sound(self, generation: Generation) -> bool:
        return not any((generation.iteration, key) in self._damaged for key in generation.digests)

    def generations(self, unit: str) -> list[Generation]:
        """Committed generations of a unit, the newest first; none if its record is damaged."""
        with log_damage():
            return self._told(unit, self.record.read_json(f"{self._commits}/{unit}"))
        return []

    def committed(self) -> list[Generation]:
        """Committed generations of all units, also of runs that were cut otherwise along y."""
        found = []
        for name in self.record.names(self._commits):
            found += self.generations(name)
        return found

    def _told(self, unit: str, record: Any) -> list[Generation]:
        """What a unit's record says.

        Raises
        ------
        RecordDamagedError
            It is no such record.
        """
        if record is None:
            return []
        match record:
            case {"problem": self.problem, "generations": [*told]} if all(map(_is_whole, told)):
                return [Generation(g["iteration"], g["digests"]) for g in told]
        raise RecordDamagedError(
            f"{self.record.folder}/{self._commits}/{unit}.json is damaged: it is no record of commits"
        )

    def drop(self, iteration: int, chunks: Iterable[str]) -> None:
        """Delete chunks; what cannot be deleted is only a waste of room."""
        for key in chunks:
            column, block = key.split("/")
            path = self._folder / str(iteration) / "c" / column / "0" / block / "0"
            with contextlib.suppress(OSError, StorageError):
                delete(path)

    def forget(self, unit: str) -> list[Generation]:
        """Delete a finished unit's record and chunks; what cannot be deleted is only a waste of room.

        Returns
        -------
        list
            What was dropped.
        """
        known: list[Generation] = []
        with contextlib.suppress(OSError, StorageError):
            known = self.generations(unit)
            self.record.delete(f"{self._commits}/{unit}")
        for generation in known:
            self.drop(generation.iteration, generation.digests)
        return known

    def clear(self) -> None:
        """Delete all generations and records, other problems' too."""
        self.record.delete_folder(COMMITS)
        self.record.delete_folder(GENERATIONS)


def _is_whole(told: Any) -> bool:
    """Whether this is what a record says of a generation."""
    match told:
        case {"iteration": int(n), "digests": {**digests}}:
            return n > 0 and all(
                isinstance(digest, str) and _KEY.fullmatch(str(key))
                for key, digest in digests.items()
            )
    return False
