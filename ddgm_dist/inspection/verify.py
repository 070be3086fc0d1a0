"""Whether finished tiles are still what was written: their voxels against the receipts' digests."""

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
        What is wrong, by name of tile: ``missing``, ``damaged`` (unreadable, or not what was
        written; ``deviation damaged`` where that is in the standard deviation) or
        ``receipt damaged``; of several samples also tiles of these, as long as they are kept; of a
        volume that is declared whole also ``shard z/y/x``: ``no receipt``.

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
        if not _is_what_was_written(store, box, str(receipt.get("digest"))):
            there = store.shards() if there is None else there  # a listing: once, and if need be
            wrong[name] = "damaged" if there[shards].all() else "missing"
        elif "std" in receipt and not _is_there(std_place(place), box, str(receipt["std"])):
            wrong[name] = "deviation damaged"
    wrong |= _wrong_samples(place, record, state)
    if state is not None and state["state"] == COMPLETE:
        wrong |= {f"shard {z}/{y}/{x}": "no receipt" for z, y, x in np.argwhere(lost).tolist()}
    return wrong


def _wrong_samples(
    out: Place, record: RunRecord, state: Mapping[str, str] | None
) -> dict[str, str]:
    """What is wrong with tiles of several samples: none has a receipt once they are deleted."""
    wrong: dict[str, str] = {}
    for name, receipt in _receipts(record, state, SAMPLE_RECEIPTS):
        box, sample = receipt_box(receipt), receipt.get("sample")
        if box is None or not isinstance(sample, int) or state is None:
            wrong[name] = "receipt damaged"
            continue
        place = sample_place(out, state["problem"], sample)
        if state["state"] == COMPLETE and not is_zarr(place):
            continue  # deleted, and who was taken for lost came late with a receipt
        if not _is_there(place, box, str(receipt.get("digest"))):
            wrong[name] = "missing or damaged"
    return wrong


def _is_there(place: Place, box: Box, digest: str) -> bool:
    """Whether a volume beside the main one is there, and is what was written."""
    try:
        return _is_what_was_written(open_volume_store(place), box, digest)
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
        if receipt is not None:  # it may go while we look: the run was started anew
            yield name, receipt if isinstance(receipt, dict) else {}


def _is_what_was_written(store: VolumeStore, box: Box, digest: str) -> bool:
    try:
        return block_digest(store.read(box)) == digest
    except StorageError:
        return False
