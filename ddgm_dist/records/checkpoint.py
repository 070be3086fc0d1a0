"""Checkpoints of unfinished tiles: generations of state, and commit records written last.

A *commit record* ``ddgm_dist/commits/<problem>/<unit>.json`` says which generations are whole: it has
the digest of every chunk, of the newest generation and of the one before. It is replaced by a
compare-and-swap after the last chunk is on disk, so no writer undoes another one's record. Older
chunks are deleted after that.

A chunk that is missing, damaged or not the recorded one raises `CheckpointDamagedError`. The run then
goes back to the generation before. A damaged record counts as none.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.place import Place
from ddgm_dist.records.damage import RecordDamagedError, log_damage
from ddgm_dist.records.generations import (
    GENERATIONS,
    CheckpointDamagedError,
    CheckpointLayout,
    Generation,
    GenerationStore,
)
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.run_record import RunRecord

__all__ = [
    "COMMITS",
    "GENERATIONS",
    "CheckpointDamagedError",
    "CheckpointLayout",
    "Checkpoints",
    "Generation",
]

COMMITS = "commits"
# Generations that a commit record names.
_KEPT = 2
_KEY = re.compile(r"\d+/\d+")


class Checkpoints(GenerationStore):
    """Generations and commit records of one problem in an output store; parameters as of its base."""

    def __init__(self, out: Place, layout: CheckpointLayout, problem: str) -> None:
        super().__init__(out, layout, problem)
        self.record, self.problem = RunRecord(out), problem
        self._commits = problem_dir(COMMITS, problem)

    def commit(self, unit: str, generation: Generation) -> list[Generation]:
        """Record that a generation of a unit is whole, and delete the generations before the last two.

        Nothing is recorded if a newer generation is recorded and not known to be damaged. So a worker
        that was taken for lost and reports late does not undo the work of others.

        Parameters
        ----------
        unit
            Name of the tile or group.
        generation
            The generation, with the digest of each chunk.

        Returns
        -------
        list
            The generations that were deleted.
        """
        dropped: list[Generation] = []

        def newer(record: Any) -> dict[str, Any] | None:
            there: list[Generation] = []
            with log_damage():
                there = self._parse(unit, record)
            if there[:1] == [generation]:
                return None  # the server did write, though its answer was lost: keep the list
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
            return self._parse(unit, self.record.read_json(f"{self._commits}/{unit}"))
        return []

    def committed(self) -> list[Generation]:
        """Committed generations of all units, also of runs that were cut otherwise along y."""
        found = []
        for name in self.record.names(self._commits):
            found += self.generations(name)
        return found

    def _parse(self, unit: str, record: Any) -> list[Generation]:
        """The generations in a unit's record.

        Raises
        ------
        RecordDamagedError
            It is not a commit record of this problem.
        """
        if record is None:
            return []
        match record:
            case {"problem": self.problem, "generations": [*found]} if all(map(_is_whole, found)):
                return [Generation(g["iteration"], g["digests"]) for g in found]
        raise RecordDamagedError(
            f"{self.record.folder}/{self._commits}/{unit}.json is damaged: it is no record of commits"
        )

    def forget(self, unit: str) -> list[Generation]:
        """Delete a finished unit's record and chunks; those that cannot be deleted only take room.

        Returns
        -------
        list
            The generations that were deleted.
        """
        known: list[Generation] = []
        with contextlib.suppress(OSError, StorageError):
            known = self.generations(unit)
            self.record.delete(f"{self._commits}/{unit}")
        for generation in known:
            self.drop(generation.iteration, generation.digests)
        return known

    def clear(self) -> None:
        """Delete all generations and commit records, also those of other problems."""
        self.record.delete_folder(COMMITS)
        self.record.delete_folder(GENERATIONS)


def _is_whole(found: Any) -> bool:
    """Return whether this is a generation as a commit record has it."""
    match found:
        case {"iteration": int(n), "digests": {**digests}}:
            return n > 0 and all(
                isinstance(digest, str) and _KEY.fullmatch(str(key))
                for key, digest in digests.items()
            )
    return False
