"""Receipts of finished tiles: their folders, and the check of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddgm_dist.core.box import Box
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.paths.place import Place
from ddgm_dist.records.damage import RecordDamagedError

__all__ = ["RECEIPTS", "SAMPLE_RECEIPTS", "as_receipt", "receipt_box", "receipt_fit"]


RECEIPTS = "receipts"
# Receipts of tiles of one of several samples.
SAMPLE_RECEIPTS = "sample-receipts"


def as_receipt(path: Place, found: Any, problem: str) -> dict[str, Any] | None:
    """The content of a receipt's file, checked; None if there is no file.

    Raises
    ------
    RecordDamagedError
        It is no receipt of this tile and problem.
    """
    if found is None:
        return None  # deleted meanwhile: the output is being replaced
    good = (
        isinstance(found, dict)
        and (found.get("tile"), found.get("problem")) == (path.stem, problem)
        and all(isinstance(found.get(key), str) for key in ("digest", "worker"))
        and isinstance(found.get("seconds"), dict)
        and receipt_box(found) is not None
    )
    if not good:
        raise RecordDamagedError(f"{path} is damaged: it is no receipt of {path.stem}")
    receipt: dict[str, Any] = found
    return receipt


def receipt_box(receipt: Mapping[str, Any]) -> Box | None:
    """The box of voxels that a receipt is for; None if it has none."""
    match receipt.get("start"), receipt.get("stop"):
        case [int(z0), int(y0), int(x0)], [int(z1), int(y1), int(x1)]:
            if all(0 <= a < b for a, b in ((z0, z1), (y0, y1), (x0, x1))):
                return Box((z0, y0, x0), (z1, y1, x1))
    return None


def receipt_fit(receipt: Mapping[str, Any]) -> ViewSums | None:
    """Sums over the samples that a tile owns; None in receipts of former versions."""
    return ViewSums.from_dict(receipt.get("fit"))
