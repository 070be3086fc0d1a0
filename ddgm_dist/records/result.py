"""Open what a run has made: the mean, the deviation or one sample."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import SIDECAR
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import ObjectPath, Place
from ddgm_dist.paths.safety import refuse_links
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.receipts import RECEIPTS
from ddgm_dist.records.replacement import content_of, pending
from ddgm_dist.records.run_record import COMPLETE, SAMPLES, STD, RunRecord
from ddgm_dist.volumes.store import VolumeStore, open_volume_store

__all__ = [
    "What",
    "open_result",
    "sample_place",
    "std_place",
    "written_at",
]


What = Literal["mean", "std"] | int


def open_result(
    path: str | Path | ObjectPath,
    *,
    what: What = "mean",
    allow_partial: bool = False,
) -> VolumeStore:
    """Open a volume that a run made, for reading, if it is whole.

    Parameters
    ----------
    path
        The output store.
    what
        ``mean``: the volume, level 0, which is the mean of the samples. ``std``: their standard
        deviation (with S - 1 in the denominator). A number: that sample, from 0, if it was kept.
    allow_partial
        Open what is not whole, too.

    Raises
    ------
    InputError
        There is no OME-Zarr image at ``path``, or no record of a run beside it; or not of ``what`` is
        asked for.
    StorageError
        The run has not finished (and ``allow_partial`` is false).
    """
    refuse_links(locate(path, "volume"), "volume")
    store = open_volume_store(path)
    record = RunRecord(path)
    state = record.read_state()
    if what != "mean":
        store = _open_part(path, what, record)
    if allow_partial:
        return store
    if state is None:
        raise InputError("volume", str(path), "has no record of a run beside it: is it a result?")
    if state["state"] != COMPLETE:
        done = len(record.names(problem_dir(RECEIPTS, state["problem"])))
        raise StorageError(
            f"{path} is not whole: its run has finished {done} tiles and was interrupted or still "
            "goes on; run reconstruct again on the same output to finish it"
        )
    return store


def _open_part(path: str | Path | ObjectPath, what: What, record: RunRecord) -> VolumeStore:
    """What there is beside the mean."""
    problem = record.read_problem() or {}
    samples = problem.get("config", {}).get("samples", 1)
    state = record.read_state() or {}
    if what == "std":
        place = std_place(path)
        if samples == 1:
            raise InputError(
                "what", what, f"is not there: {path} has one sample", "run it with samples=8"
            )
    else:
        if isinstance(what, str) or not 0 <= what < samples:
            raise InputError("what", what, f"is not mean, std or a sample below {samples}")
        if samples == 1:
            return open_volume_store(path)
        place = sample_place(path, state.get("problem", ""), what)
        if not is_zarr(place):
            raise InputError("what", what, "was not kept", "run it with keep_samples=true")
    return open_volume_store(place)


def written_at(out: str | Path | ObjectPath) -> Place:
    """Where the newest run of an output writes: there, or where its replacement is being made."""
    place = locate(out, "out")
    left = pending(place)
    return left if left is not None and RunRecord(left).has("problem") else place


def std_place(out: str | Path | ObjectPath) -> Place:
    """Where the standard deviation of several samples lies: an OME-Zarr image of its own."""
    return content_of(locate(out, "out")) / STD


def sample_place(out: str | Path | ObjectPath, problem: str, sample: int) -> Place:
    """Where a sample's volume lies while it is needed; likewise."""
    return content_of(locate(out, "out")) / SIDECAR / problem_dir(SAMPLES, problem) / str(sample)
