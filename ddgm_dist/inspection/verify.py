"""Compares the voxels of finished tiles with the digests in their receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import refuse_links
from ddgm_dist.records.damage import RecordDamagedError
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.receipts import RECEIPTS, SAMPLE_RECEIPTS, receipt_box
from ddgm_dist.records.result import sample_place, std_place
from ddgm_dist.records.run_record import COMPLETE, RunRecord
from ddgm_dist.volumes.layout import block_digest
from ddgm_dist.volumes.store import VolumeStore, open_volume_store

__all__ = ["verify"]


def verify(out: str | Path) -> dict[str, str]:
    """Read all finished tiles; nothing is written.

    Returns
    -------
    dict
        Defects by name of tile: ``missing``, ``damaged`` (unreadable, or not what was written),
        ``deviation damaged`` (the same of the standard deviation) or ``receipt damaged``. Tiles of
        several samples are read as long as the samples are kept. A volume that is complete also has
        ``shard z/y/x``: ``no receipt`` where that is so.

    Raises
    ------
    InputError
        ``out`` is no volume.
    """
    place = locate(out, "out")
    refuse_links(place, "out")
    store, record, wrong = open_volume_store(place), RunRecord(place), dict[str, str]()
    state, lost = record.read_state(), np.ones(store.layout.grid, bool)
    there: NDArray[np.bool_] | None = None
    for name, receipt in _receipts(record, state, RECEIPTS):
        box = receipt_box(receipt)
        if box is None or any(b > n for b, n in zip(box.stop, store.shape, strict=True)):
            wrong[name] = "receipt damaged"
            continue
        shards = store.layout.shards_of(box)
        lost[shards] = False
        if not _agrees(store, box, str(receipt.get("digest"))):
            there = store.shards() if there is None else there  # a listing, made once at most
            wrong[name] = "damaged" if there[shards].all() else "missing"
        elif "std" in receipt and not _holds(std_place(place), box, str(receipt["std"])):
            wrong[name] = "deviation damaged"
    wrong |= _wrong_samples(place, record, state)
    if state is not None and state["state"] == COMPLETE:
        wrong |= {f"shard {z}/{y}/{x}": "no receipt" for z, y, x in np.argwhere(lost).tolist()}
    return wrong


def _wrong_samples(
    out: Place, record: RunRecord, state: Mapping[str, str] | None
) -> dict[str, str]:
    """Defects in tiles of several samples; none are found once these are deleted."""
    wrong: dict[str, str] = {}
    for name, receipt in _receipts(record, state, SAMPLE_RECEIPTS):
        box, sample = receipt_box(receipt), receipt.get("sample")
        if box is None or not isinstance(sample, int) or state is None:
            wrong[name] = "receipt damaged"
            continue
        place = sample_place(out, state["problem"], sample)
        if state["state"] == COMPLETE and not is_zarr(place):
            continue  # deleted; the receipt is of a worker that was taken for lost and came late
        if not _holds(place, box, str(receipt.get("digest"))):
            wrong[name] = "missing or damaged"
    return wrong


def _holds(place: Place, box: Box, digest: str) -> bool:
    """Return whether a volume beside the main one holds what was written to it."""
    try:
        return _agrees(open_volume_store(place), box, digest)
    except (InputError, IndexError):
        return False


def _receipts(
    record: RunRecord, state: Mapping[str, str] | None, kind: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if state is None:
        return
    folder = problem_dir(kind, state["problem"])
    for name in record.names(folder):
        try:
            receipt = record.read_json(f"{folder}/{name}")
        except RecordDamagedError:
            receipt = {}
        if receipt is not None:  # a run that is started anew deletes receipts meanwhile
            yield name, receipt if isinstance(receipt, dict) else {}


def _agrees(store: VolumeStore, box: Box, digest: str) -> bool:
    try:
        return block_digest(store.read(box)) == digest
    except StorageError:
        return False
