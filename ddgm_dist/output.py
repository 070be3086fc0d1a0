"""The output of a run: made, found again, and declared whole.

The order of writes is the promise. `problem.json` comes first and says whose output it is; then the
empty volume; then shards, each followed by its receipt; at the very end, when every tile has its receipt
and every shard is there, `state.json` says *complete*. Whatever is interrupted in between reads as
unfinished, and the same call finishes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.plan.plan import Plan
from ddgm_dist.plan.problem import Problem, differences
from ddgm_dist.storage.run_record import COMPLETE, RUNNING, RunRecord
from ddgm_dist.storage.volume import (
    VolumeLayout,
    VolumeStore,
    create_volume,
    open_volume_store,
)

__all__ = ["Output"]


class Output:
    """An output store that belongs to one problem; made by :meth:`open`.

    Attributes
    ----------
    path
        Absolute.
    digest
        Hash of the problem.
    """

    def __init__(self, store: VolumeStore, record: RunRecord, plan: Plan, digest: str) -> None:
        self.store, self.record, self.plan, self.digest = store, record, plan, digest
        self.path = store.path

    @classmethod
    def open(
        cls,
        out: str | Path,
        problem: Problem,
        plan: Plan,
        voxel_size_nm: float | None,
        *,
        overwrite: bool,
    ) -> Output:
        """Make the store, or find that of the same problem.

        Raises
        ------
        InputError
            ``out`` holds something else, or another problem's result.
        """
        record, digest = RunRecord(out), problem.digest()
        saved = None if overwrite else record.read_json("problem")
        if saved is None and not overwrite and Path(out).exists():
            raise InputError(
                "out",
                str(out),
                "exists and holds no record of a reconstruction",
                "choose another name, or replace it with --overwrite",
            )
        if saved is not None:
            _check_same(saved, problem.to_dict(), str(out))
        layout = VolumeLayout(plan.shape, plan.shard, plan.chunk)
        state = record.read_state() if saved is not None else None
        if state is None:
            # Not begun, or interrupted before the volume was made: nothing is in it yet.
            store = create_volume(
                out, layout, voxel_size_nm=voxel_size_nm, name=Path(out).stem, overwrite=overwrite
            )
            record.write_json("problem", problem.to_dict())
            record.write_state(RUNNING, digest)
        else:
            store = open_volume_store(out, "r+")
        record.write_json(
            "plan",
            {
                "tiles": len(plan.tiles),
                "groups": len(plan.groups),
                "iterations": plan.iterations,
                "order": plan.order,
                "voxels": plan.voxels,
            },
        )
        return cls(store, record, plan, digest)

    def finished(self) -> frozenset[str]:
        """Tiles whose rows have all been written, by tiles that may have been cut otherwise.

        A receipt whose shard is gone counts for nothing.
        """
        rows: dict[tuple[int, int], set[int]] = {}
        for receipt in self.record.receipts().values():
            if receipt.get("problem") != self.digest:
                continue
            (_, y0, x0), (_, y1, x1) = receipt["start"], receipt["stop"]
            rows.setdefault((x0, x1), set()).update(range(y0, y1))
        there = self.store.shards()
        return frozenset(
            tile.name
            for tile in self.plan.tiles
            if rows.get((tile.write_box.start[2], tile.write_box.stop[2]), set())
            >= set(range(tile.write_box.start[1], tile.write_box.stop[1]))
            and there >= self.store.layout.shards_of(tile.write_box)
        )

    def complete(self, provenance: Mapping[str, Any] | None) -> None:
        """Declare the volume whole.

        Parameters
        ----------
        provenance
            To be kept beside it; None leaves what is there.

        Raises
        ------
        StorageError
            A tile has no receipt, or its shard is gone.
        """
        there = self.finished()
        missing = [tile.name for tile in self.plan.tiles if tile.name not in there]
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise StorageError(
                f"{self.path}: {len(missing)} finished tiles are not there any more ({shown}); "
                "something else deletes files in the store; run the same command again"
            )
        if provenance is not None:
            self.record.write_json("provenance", dict(provenance))
        self.record.write_state(COMPLETE, self.digest)
        for folder in ("commits", "generations"):
            self.record.delete_folder(folder)


def _check_same(saved: dict[str, Any], ours: dict[str, Any], out: str) -> None:
    changed = differences(saved, ours)
    if changed:
        more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        raise InputError(
            "out",
            out,
            f"holds another problem's result; changed: {'; '.join(changed[:6])}{more}",
            "choose another name, or replace it with --overwrite",
        )
