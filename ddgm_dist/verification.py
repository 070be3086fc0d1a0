"""Whether finished tiles are still what was written: their voxels against the receipts' digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.errors import StorageError
from ddgm_dist.storage.run_record import (
    COMPLETE,
    RECEIPTS,
    RecordDamagedError,
    RunRecord,
    receipt_box,
    shelf,
)
from ddgm_dist.storage.volume import VolumeStore, block_digest, open_volume_store

__all__ = ["verify"]


def verify(out: str | Path) -> dict[str, str]:
    """Read all finished tiles; nothing is written.

    Returns
    -------
    dict
        What is wrong, by name of tile: ``missing``, ``damaged`` (unreadable, or not what was
        written) or ``receipt damaged``; of a volume that is declared whole also
        ``shard z/y/x``: ``no receipt``.

    Raises
    ------
    InputError
        ``out`` is no volume.
    """
    store, record, wrong = open_volume_store(out), RunRecord(out), dict[str, str]()
    state, lost = record.read_state(), np.ones(store.layout.grid, bool)
    there: NDArray[np.bool_] | None = None
    for name, receipt in _receipts(record, state):
        box = receipt_box(receipt)
        if box is None or any(b > n for b, n in zip(box.stop, store.shape, strict=True)):
            wrong[name] = "receipt damaged"
            continue
        shards = store.layout.shards_of(box)
        lost[shards] = False
        if not _is_what_was_written(store, box, str(receipt.get("digest"))):
            there = store.shards() if there is None else there  # a listing: once, and if need be
            wrong[name] = "damaged" if there[shards].all() else "missing"
    if state is not None and state["state"] == COMPLETE:
        wrong |= {f"shard {z}/{y}/{x}": "no receipt" for z, y, x in np.argwhere(lost).tolist()}
    return wrong


def _receipts(
    record: RunRecord, state: Mapping[str, str] | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if state is None:
        return
    folder = shelf(RECEIPTS, state["problem"])
    for name in record.names(folder):
        try:
            receipt = record.read_json(f"{folder}/{name}")
        except RecordDamagedError:
            receipt = {}
        if receipt is not None:  # it may go while we look: the run was started anew
            yield name, receipt if isinstance(receipt, dict) else {}


def _is_what_was_written(store: VolumeStore, box: Box, digest: str) -> bool:
    try:
        return block_digest(store.read(box)) == digest
    except StorageError:
        return False
