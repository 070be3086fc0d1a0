"""Open the result of a run: the mean, the deviation or one sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.claim import SIDECAR
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import ObjectPath, Place
from ddgm_dist.paths.safety import refuse_links
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.receipts import RECEIPTS
from ddgm_dist.records.replacement import content_of, pending
from ddgm_dist.records.run_record import COMPLETE, SAMPLES, STD, RunRecord
from ddgm_dist.volumes.store import VolumeStore, open_volume_store

__all__ = ["What", "open_result", "open_result_at", "sample_place", "std_place", "work_place"]


What = Literal["mean", "std"] | int


def open_result(
    path: str | Path | ObjectPath, *, what: What = "mean", allow_partial: bool = False
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
        Open a volume that is not whole, too.

    Raises
    ------
    InputError
        There is no OME-Zarr image at ``path``, no record of a run beside it, or no such part.
    StorageError
        The run has not finished (and ``allow_partial`` is false).
    """
    return open_result_at(locate(path, "volume"), what=what, allow_partial=allow_partial)


def open_result_at(
    place: Place, *, what: What = "mean", allow_partial: bool = False
) -> VolumeStore:
    """Open a volume as `open_result` does, by its place."""
    refuse_links(place, "volume")
    store, record = open_volume_store(place), RunRecord(place)
    state = record.read_state()
    part = place if what == "mean" else _part(place, what, record, state)
    if part != place:
        store = open_volume_store(part)
    if allow_partial:
        return store
    if state is None:
        raise InputError("volume", str(place), "has no record of a run beside it: is it a result?")
    if state["state"] != COMPLETE:
        done = len(record.names(problem_dir(RECEIPTS, state["problem"])))
        raise StorageError(
            f"{place} is not whole: its run has finished {done} tiles and was interrupted or is "
            "still running; run reconstruct again on the same output to finish it"
        )
    return store


def _part(place: Place, what: What, record: RunRecord, state: dict[str, Any] | None) -> Place:
    """Place of the deviation or of a sample."""
    problem = record.read_problem() or {}
    samples = problem.get("config", {}).get("samples", 1)
    if what == "std":
        if samples == 1:
            raise InputError(
                "what", what, f"is not there: {place} has one sample", "run it with samples=8"
            )
        return std_place(place)
    if isinstance(what, str) or not 0 <= what < samples:
        raise InputError("what", what, f"is not mean, std or a sample below {samples}")
    if samples == 1:
        return place
    sample = None if state is None else sample_place(place, state["problem"], what)
    if sample is None or not is_zarr(sample):
        raise InputError("what", what, "was not kept", "run it with keep_samples=true")
    return sample


def work_place(place: Place) -> Place:
    """Place where the newest run of an output writes: the output, or its replacement."""
    left = pending(place)
    return left if left is not None and RunRecord(left).has("problem") else place


def std_place(out: Place) -> Place:
    """Place of the standard deviation of several samples, an OME-Zarr image."""
    return content_of(out) / STD


def sample_place(out: Place, problem: str, sample: int) -> Place:
    """Place of the volume of one sample, an OME-Zarr image; deleted when it is not needed any more."""
    return content_of(out) / SIDECAR / problem_dir(SAMPLES, problem) / str(sample)
