"""The output of a run: made, found again, and declared whole.

The order of writes is the promise. `problem.json` comes first and says whose output it is; then the
empty volume; then shards, each followed by its receipt; at the very end, when every tile has its receipt
and every shard is there, `state.json` says *complete*. Whatever is interrupted in between reads as
unfinished, and the same call finishes it.

Several samples have a volume each, `ddgm_dist/samples/<problem>/<k>`, and receipts of their own. The
volume itself and `std` are made of them, tile by tile; when these are whole the samples are deleted.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.core.intervals import RowIntervals
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import (
    SIDECAR,
    is_claim,
    is_empty_folder,
    prepare_output,
    refuse_unmovable,
)
from ddgm_dist.paths.files import exists, is_zarr, names
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import refuse_links
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem, changes, differences
from ddgm_dist.records.checkpoint import COMMITS, GENERATIONS
from ddgm_dist.records.damage import damage_told
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.receipts import RECEIPTS, SAMPLE_RECEIPTS, receipt_box
from ddgm_dist.records.replacement import Replacement, abandon, current, pending, sweep
from ddgm_dist.records.result import sample_place, std_place
from ddgm_dist.records.run_record import RUNNING, SAMPLES, RunRecord
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import LEVEL, VolumeStore, create_volume, open_volume_store

__all__ = ["Output"]

# Changes of a problem that are told.
_SHOWN = 4


class Output:
    """An output store that belongs to one problem, and to this process for the time of a run.

    Made by :meth:`claim`; a context manager that releases the store. :meth:`begin` makes its volume,
    and sets the attributes.

    Attributes
    ----------
    path
        Absolute, or a URL; while it is to replace another output, where it is written until then.
    digest
        Hash of the problem.
    lease
        Keeps other drivers away.
    """

    path: str
    store: VolumeStore
    record: RunRecord
    lease: Lease
    plan: Plan
    digest: str
    voxel_size_nm: float | None
    _swap: Replacement | None

    def __init__(self, out: str | Path, place: Place, lease: Lease, *, overwrite: bool) -> None:
        self._out, self._place, self._held, self._overwrite = out, place, lease, overwrite
        self.lease, self._swap = lease, None

    @classmethod
    def claim(cls, out: str | Path, *, overwrite: bool) -> Output:
        """Keep other drivers away from an output; nothing but the lease is written.

        Raises
        ------
        InputError
            ``out`` holds something that is no result, or is being written by another driver.
        """
        place = _check_ours(out, overwrite=overwrite)
        held = Lease(place)
        held.acquire()
        try:
            _check_ours(out, overwrite=overwrite)  # somebody may have made it before it was leased
        except BaseException:
            held.release()
            raise
        return cls(out, place, held, overwrite=overwrite)

    def check(self, problem: Problem) -> None:
        """Refuse an output that holds another problem's result and is not to be replaced.

        Raises
        ------
        InputError
            The message tells what has changed.
        """
        if self._overwrite or is_claim(self._place):
            return
        left = pending(self._place)
        if left is not None and _is_of(left, problem):
            return
        saved = RunRecord(current(self._place)).read_problem()
        if saved is not None:
            _check_same(saved, problem.to_dict(), str(self._out))

    def begin(self, problem: Problem, plan: Plan, voxel_size_nm: float | None) -> None:
        """Make the store, or open that of the same problem.

        Raises
        ------
        InputError
            The output holds another problem's result.
        """
        self._swap = _replacement(self._place, self._held, problem, overwrite=self._overwrite)
        place = current(self._place) if self._swap is None else self._swap.work
        self.lease = self._held if self._swap is None else self._swap.lease
        self.record, self.digest = RunRecord(place), problem.digest()
        self.plan, self.voxel_size_nm = plan, voxel_size_nm
        saved = self.record.read_problem()
        if saved is None:
            self.record.write_json("problem", problem.to_dict())
        else:
            _check_same(saved, problem.to_dict(), str(self._out))
        if self.record.read_state() is None:
            # Not begun, or interrupted before the volume was made: nothing is in it yet.
            self.store = create_volume(
                place,
                VolumeLayout(plan.shape, plan.shard, plan.chunk),
                voxel_size_nm=voxel_size_nm,
                name=self._place.stem,
                claimed=True,
            )
            self.record.write_state(RUNNING, self.digest)
        else:
            self.store = open_volume_store(place, "r+")
        self.path = self.store.path
        self.record.write_json("plan", _summary(plan))

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        (self._swap or self._held).release()

    def finished(self) -> frozenset[str]:
        """Tiles whose rows have all been written, by tiles that may have been cut otherwise.

        A receipt whose shard is gone counts for nothing. Tiles of samples need not be there any more
        where the samples have been combined.
        """
        layout = self.store.layout
        whole, there = RowIntervals(), self.store.shards()
        for receipt in self.record.receipts(self.digest):
            whole.add(_box(receipt))
        if self.plan.samples > 1:
            there &= self._shards(std_place(self.path))

        def has(rows: RowIntervals, there: NDArray[np.bool_], box: Box) -> bool:
            return rows.has(box) and bool(there[layout.shards_of(box)].all())

        final = self.plan.combined or self.plan.tiles
        found = {tile.name for tile in final if has(whole, there, tile.write_box)}
        if len(found) == len(final):
            return frozenset(found).union(tile.name for tile in self.plan.tiles)
        if self.plan.samples > 1:
            written, lie = self._samples()
            found.update(
                tile.name
                for tile in self.plan.tiles
                if tile.place in found
                or has(written[tile.sample], lie[tile.sample], tile.write_box)
            )
        return frozenset(found)

    def _samples(self) -> tuple[list[RowIntervals], list[NDArray[np.bool_]]]:
        """What of each sample has receipts, and which of its shards are there."""
        written = [RowIntervals() for _ in self._numbers]
        for receipt in self.record.receipts(self.digest, SAMPLE_RECEIPTS):
            sample = receipt.get("sample")
            if isinstance(sample, int) and sample in self._numbers:
                written[sample].add(_box(receipt))
        places = [sample_place(self.path, self.digest, k) for k in self._numbers]
        return written, [self._shards(place) for place in places]

    def _shards(self, place: Place) -> NDArray[np.bool_]:
        """Which shards of a volume beside the main one are there."""
        if not _is_made(place):  # not yet, or combined and deleted
            return np.zeros(self.store.layout.grid, bool)
        return open_volume_store(place).shards()

    def reopen(self) -> None:
        """Declare that there is something to be done, if only to a volume that was whole.

        Volumes of samples are made now: they are gone once they have been combined.
        """
        self.record.write_state(RUNNING, self.digest)
        if self.plan.samples == 1:
            return
        beside = {f"sample {k}": sample_place(self.path, self.digest, k) for k in self._numbers}
        for name, place in {"standard deviation": std_place(self.path), **beside}.items():
            if not _is_made(place):
                create_volume(
                    place,
                    self.store.layout,
                    voxel_size_nm=self.voxel_size_nm,
                    name=name,
                    claimed=True,
                    within=True,
                )

    @property
    def _numbers(self) -> range:
        return range(self.plan.samples)

    def complete(self, provenance: Mapping[str, Any] | None, *, keep_samples: bool = False) -> None:
        """Declare the volume whole.

        Parameters
        ----------
        provenance
            To be kept beside it; None leaves what is there.
        keep_samples
            Also what it was made of.

        Raises
        ------
        StorageError
            A tile has no receipt, or its shard is gone.
        """
        self.lease.check()
        there = self.finished()
        self.lease.check()
        final = self.plan.combined or self.plan.tiles
        missing = [tile.name for tile in final if tile.name not in there]
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise StorageError(
                f"{self.path}: {len(missing)} finished tiles are not there any more ({shown}); "
                "something else deletes files in the store; run the same command again"
            )
        if provenance is not None:
            self.record.write_json("provenance", dict(provenance))
        self.record.complete(self.digest)
        if provenance is None:  # nothing was done: what was kept before stays
            before = self.record.read_json("provenance") or {}
            keep_samples = keep_samples or before.get("config", {}).get("keep_samples", False)
        for folder in (COMMITS, GENERATIONS):
            self.record.delete_folder(folder)
        self.record.delete_others(RECEIPTS, self.digest)
        for kind in (SAMPLE_RECEIPTS, SAMPLES):
            if keep_samples:
                self.record.delete_others(kind, self.digest)
            else:
                self.record.delete_folder(kind)
        if self._swap is not None:
            self._swap.publish(_redirect)


def _redirect(attributes: dict[str, Any], folder: str) -> dict[str, Any]:
    """OME-Zarr metadata of levels that lie in a folder of their group."""
    found = copy.deepcopy(attributes)
    for image in found["ome"]["multiscales"]:
        for level in image["datasets"]:
            level["path"] = f"{folder}/{level['path']}"
    return found


def _replacement(
    place: Place, held: Lease, problem: Problem, *, overwrite: bool
) -> Replacement | None:
    """How the output takes the place of another one, begun or resumed; None if it does not."""
    if is_claim(place):
        abandon(place)
        return None
    sweep(place)
    left = pending(place)
    resumed = left is not None and _is_of(left, problem)
    swap = Replacement(place, held)
    # What --overwrite has begun is resumed, also without it.
    if resumed and (overwrite or not _is_of(current(place), problem)):
        swap.resume()
    elif overwrite:
        swap.begin()
    else:
        return None
    return swap


def _is_of(place: Place, problem: Problem) -> bool:
    """Whether an output is of a problem; one with a damaged record is not."""
    with damage_told():
        record = RunRecord(place)
        saved = record.read_problem()
        record.read_state()
        return saved is not None and not differences(saved, problem.to_dict())
    return False


def _is_made(place: Place) -> bool:
    """Whether a volume was made whole: its array is what is made last."""
    return is_zarr(place / LEVEL)


def _box(receipt: Mapping[str, Any]) -> Box:
    box = receipt_box(receipt)
    assert box is not None  # it would count for none
    return box


def _summary(plan: Plan) -> dict[str, Any]:
    """What `status` needs to know of the plan."""
    return {
        "tiles": plan.units,
        "samples": plan.samples,
        "groups": len(plan.groups),
        "iterations": plan.iterations,
        "order": plan.order,
        "voxels": plan.voxels,
    }


def _check_ours(out: str | Path, *, overwrite: bool) -> Place:
    """The place of the output; what is not a run's is refused before anything is written into it."""
    path = locate(out, "out")
    if not exists(path):
        return prepare_output(path, "out", overwrite=False)
    refuse_links(path, "out")
    # A run that was interrupted at once has left its lease alone.
    ours = names(path) == [SIDECAR] or RunRecord(path).has("problem")
    if ours and isinstance(path, Path) and not os.access(path, os.W_OK):
        raise InputError("out", str(out), "is not writable")
    if ours and not overwrite:
        return path
    if overwrite and (ours or is_zarr(path) or is_empty_folder(path)):
        if isinstance(path, Path):
            refuse_unmovable(path, "out")
        return path
    raise InputError(
        "out",
        str(out),
        "is not a Zarr store, so it is not deleted to make room"
        if overwrite
        else "exists and holds no record of a reconstruction",
        "choose another name" + ("" if overwrite else ", or replace it with --overwrite"),
    )


def _check_same(saved: dict[str, Any], ours: dict[str, Any], out: str) -> None:
    if not differences(saved, ours):
        return
    changed, settings = changes(saved, ours)
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    back = ""
    if 0 < len(settings) == len(changed) <= _SHOWN:
        back = f"go on with what is there by {' '.join(f'--set {each}' for each in settings)}, or "
    raise InputError(
        "out",
        out,
        f"holds another problem's result; changed: {'; '.join(changed[:_SHOWN])}{more}",
        f"{back}choose another name, or replace it with --overwrite",
    )
