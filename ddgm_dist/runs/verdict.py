"""The verdict on a finished volume, from the receipts of its tiles."""

from __future__ import annotations

import logging

import numpy as np

from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.planning.problem import Problem
from ddgm_dist.records.fit import Fit
from ddgm_dist.records.receipts import receipt_box, receipt_fit
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.volumes.layout import VolumeLayout

__all__ = ["judge_volume", "warn_of_misfit"]

log = logging.getLogger("ddgm_dist")


def judge_volume(
    record: RunRecord, layout: VolumeLayout, problem: Problem, meta: TiltSeriesMeta
) -> Fit | None:
    """The verdict on a volume; None if no receipt says how a tile fits.

    Of tiles that overlap, as those of two plans may, one counts.

    Parameters
    ----------
    record, layout
        Record of the output, and the division of its volume into shards.
    problem
        Problem that was solved.
    meta
        Metadata of the series: its views' names, and the beam.
    """
    sums, counted = ViewSums.zero(problem.geometry.tilts), np.zeros(layout.grid, bool)
    for receipt in record.receipts(problem.digest()):
        found, box = receipt_fit(receipt), receipt_box(receipt)
        if found is None or box is None or found.views != sums.views:
            continue
        shards = layout.shards_of(box)
        if not counted[shards].any():
            counted[shards] = True
            sums += found
    return Fit.judge(
        sums,
        problem.intensity,
        float(counted.mean()),
        names=meta.views,
        beam=meta.beam_origin,
    )


def warn_of_misfit(path: str, fit: Fit | None) -> None:
    """Log one warning if a volume does not explain its data."""
    warning = None if fit is None else fit.warning()
    if warning is not None:
        log.warning("%s: %s", path, warning)
