"""Whether finished tiles are still what was written: their voxels against the receipts' digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ddgm_dist.core.box import Box
from ddgm_dist.errors import StorageError
from ddgm_dist.storage.run_record import COMPLETE, RunRecord
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
    covered = set[tuple[int, int, int]]()
    for name, receipt in _receipts(record):
        box = _box(receipt)
        if box is None or any(b > n for b, n in zip(box.stop, store.shape, strict=True)):
            wrong[name] = "receipt damaged"
            continue
        covered |= store.layout.shards_of(box)
        found = _check(store, box, str(receipt.get("digest")))
        if found:
            wrong[name] = found
    state = record.read_state()
    if state is not None and state["state"] == COMPLETE:
        every = store.layout.shards_of(Box((0, 0, 0), store.shape))
        wrong |= {f"shard {z}/{y}/{x}": "no receipt" for z, y, x in sorted(every - covered)}
    return wrong


def _receipts(record: RunRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in record.names("receipts"):
        try:
            receipt = record.read_json(f"receipts/{name}")
        except StorageError:
            receipt = {}
        if receipt is not None:  # it may go while we look: the run was started anew
            yield name, receipt if isinstance(receipt, dict) else {}


def _check(store: VolumeStore, box: Box, digest: str) -> str:
    """What is wrong with a box; empty when nothing is."""
    try:
        if block_digest(store.read(box)) == digest:
            return ""
    except StorageError:
        return "damaged"
    return "damaged" if store.shards() >= store.layout.shards_of(box) else "missing"


def _box(receipt: Mapping[str, Any]) -> Box | None:
    match receipt.get("start"), receipt.get("stop"):
        case [int(z0), int(y0), int(x0)], [int(z1), int(y1), int(x1)]:
            if all(0 <= a < b for a, b in ((z0, z1), (y0, y1), (x0, x1))):
                return Box((z0, y0, x0), (z1, y1, x1))
    return None
