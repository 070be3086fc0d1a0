"""The output of a run: made, or found again, and completed.

The order of writes keeps it consistent. `problem.json` is first and says which problem the output
belongs to; then the empty volume; then shards, each followed by its receipt. When every tile has its
receipt and every shard is there, `state.json` says *complete*. A run that is interrupted leaves an
unfinished output, and the same call finishes it.

Several samples have a volume each, `ddgm_dist/samples/<problem>/<k>`, and receipts of their own. The
volume itself and `std` are computed from them, tile by tile. When these are whole the samples are
deleted.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.core.intervals import RowIntervals
from ddgm_dist.errors import StorageError
from ddgm_dist.paths.claim import is_claim
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.place import ObjectPath, Place
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.records.checkpoint import COMMITS, GENERATIONS
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.receipts import RECEIPTS, SAMPLE_RECEIPTS, receipt_box
from ddgm_dist.records.replacement import Replacement, content_of, pending
from ddgm_dist.records.result import sample_place, std_place
from ddgm_dist.records.run_record import RUNNING, SAMPLES, RunRecord
from ddgm_dist.runs.output_place import check_ours, check_same, is_of, replacement_of
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import LEVEL, VolumeStore, create_volume, open_volume_store

__all__ = ["Output"]


class Output:
    """An output store that belongs to one problem, and to this process for the time of a run.

    Made by :meth:`claim`; a context manager that releases the store. :meth:`begin` makes its volume,
    and sets the attributes.

    Attributes
    ----------
    place
        Place of the store; beside the output's place while it is to replace another one.
    digest
        Hash of the problem.
    lease
        Lease of the output, which keeps other drivers away.
    """

    place: Place
    store: VolumeStore
    record: RunRecord
    lease: Lease
    plan: Plan
    digest: str
    voxel_size_nm: float | None
    _swap: Replacement | None

    def __init__(self, out: Place, lease: Lease, *, overwrite: bool) -> None:
        self._out, self._held, self._overwrite = out, lease, overwrite
        self.place, self.lease, self._swap = out, lease, None
        self._made: list[Path] = []

    @classmethod
    def claim(cls, out: Place, *, overwrite: bool) -> Output:
        """Keep other drivers away from an output; nothing but the lease is written.

        Raises
        ------
        InputError
            ``out`` holds something that is no result, or is being written by another driver.
        """
        above = [] if isinstance(out, ObjectPath) else [p for p in out.parents if not p.exists()]
        held = Lease(out)
        claimed = cls(out, held, overwrite=overwrite)
        claimed._made = above
        try:
            check_ours(out, overwrite=overwrite)
            held.acquire()
            check_ours(out, overwrite=overwrite)  # another driver may have made it meanwhile
        except BaseException:
            claimed.release()
            raise
        return claimed

    def release(self) -> None:
        """Give the lease back; folders that were made for an output that was not begun are removed."""
        (self._swap or self._held).release()
        with contextlib.suppress(OSError):  # somebody else may use them by now
            for folder in self._made:
                folder.rmdir()

    def check(self, problem: Problem) -> None:
        """Refuse an output that holds another problem's result and is not to be replaced.

        Raises
        ------
        InputError
            The message lists what has changed.
        """
        if self._overwrite or is_claim(self._out):
            return
        left = pending(self._out)
        if left is not None and is_of(left, problem):
            return
        saved = RunRecord(content_of(self._out)).read_problem()
        if saved is not None:
            check_same(saved, problem.to_dict(), str(self._out))

    def earlier(self) -> tuple[RunRecord, ...]:
        """Records of runs that this one may resume; none of them is changed."""
        left = pending(self._out)
        found = [] if left is None else [RunRecord(left)]
        if not self._overwrite:
            found.append(RunRecord(content_of(self._out)))
        return tuple(found)

    def begin(self, problem: Problem, plan: Plan, voxel_size_nm: float | None) -> None:
        """Make the store, or open that of the same problem.

        Raises
        ------
        InputError
            The output holds another problem's result.
        StorageError
            Another driver has taken the output over since it was claimed.
        """
        # Building the problem may have taken long: another driver may have the output by now.
        self._held.check()
        self._swap = replacement_of(self._out, self._held, problem, overwrite=self._overwrite)
        self._made = []
        work = content_of(self._out) if self._swap is None else self._swap.work
        self.lease = self._held if self._swap is None else self._swap.lease
        self.record, self.digest = RunRecord(work), problem.digest()
        self.plan, self.voxel_size_nm = plan, voxel_size_nm
        saved = self.record.read_problem()
        if saved is None:
            self.record.write_json("problem", problem.to_dict())
        else:
            check_same(saved, problem.to_dict(), str(self._out))
        if self.record.read_state() is None:
            # Not begun, or interrupted before the volume was made.
            self.store = create_volume(
                work,
                VolumeLayout(plan.shape, plan.shard, plan.chunk),
                voxel_size_nm=voxel_size_nm,
                name=self._out.stem,
                claimed=True,
            )
            self.record.write_state(RUNNING, self.digest)
        else:
            self.store = open_volume_store(work, "r+")
        self.place = self.store.place
        self.record.write_json("plan", _summary(plan))

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def finished(self) -> frozenset[str]:
        """Names of the tiles whose rows have all been written, maybe as parts of other tiles.

        A receipt whose shard is gone does not count. Tiles of samples count as finished where the
        samples have been combined and deleted.
        """
        layout = self.store.layout
        whole, there = RowIntervals(), self.store.shards()
        for receipt in self.record.receipts(self.digest):
            whole.add(_box(receipt))
        if self.plan.samples > 1:
            there &= self._shards(std_place(self.place))

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
        """Boxes of each sample that have receipts, and flags of its shards that exist."""
        written = [RowIntervals() for _ in self._numbers]
        for receipt in self.record.receipts(self.digest, SAMPLE_RECEIPTS):
            sample = receipt.get("sample")
            if isinstance(sample, int) and sample in self._numbers:
                written[sample].add(_box(receipt))
        places = [sample_place(self.place, self.digest, k) for k in self._numbers]
        return written, [self._shards(place) for place in places]

    def _shards(self, place: Place) -> NDArray[np.bool_]:
        """Flags by index ``(z, y, x)``: whether a shard of a sample, or of the deviation, exists."""
        if not _is_made(place):  # not yet, or combined and deleted
            return np.zeros(self.store.layout.grid, bool)
        return open_volume_store(place).shards()

    def reopen(self) -> None:
        """Record that the run is unfinished, also where it was complete, and make volumes of samples.

        Those of an earlier run were deleted when they had been combined.
        """
        self.lease.check()
        self.record.write_state(RUNNING, self.digest)
        if self.plan.samples == 1:
            return
        beside = {f"sample {k}": sample_place(self.place, self.digest, k) for k in self._numbers}
        for name, place in {"standard deviation": std_place(self.place), **beside}.items():
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
        """Record that the volume is whole, and delete what only the run needed.

        Parameters
        ----------
        provenance
            Written beside the volume; None keeps the file that is there.
        keep_samples
            Whether the samples and their receipts are kept.

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
                f"{self.place}: {len(missing)} finished tiles are not there any more ({shown}); "
                "another program deletes files in the store; run the same command again"
            )
        if provenance is not None:
            self.record.write_json("provenance", dict(provenance))
        self.record.complete(self.digest)
        if provenance is None:  # no tile was computed: samples that an earlier run kept stay
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
    """The group's metadata with its levels in a folder of the group."""
    found = copy.deepcopy(attributes)
    for image in found["ome"]["multiscales"]:
        for level in image["datasets"]:
            level["path"] = f"{folder}/{level['path']}"
    return found


def _is_made(place: Place) -> bool:
    """Return whether a volume was created; its array is created last."""
    return is_zarr(place / LEVEL)


def _box(receipt: Mapping[str, Any]) -> Box:
    box = receipt_box(receipt)
    assert box is not None  # `as_receipt` has checked it
    return box


def _summary(plan: Plan) -> dict[str, Any]:
    """Figures of the plan that `status` shows."""
    return {
        "tiles": plan.units,
        "samples": plan.samples,
        "groups": len(plan.groups),
        "iterations": plan.iterations,
        "order": plan.order,
        "voxels": plan.voxels,
        "preset": None if plan.preset is None else plan.preset.to_dict(),
    }
