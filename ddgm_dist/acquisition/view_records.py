"""Records of the views of an ingest: which image is which, and what was done to each."""

from __future__ import annotations

from collections.abc import Sequence

from ddgm_dist.acquisition.intensities import Intensities
from ddgm_dist.acquisition.layout import Layout
from ddgm_dist.acquisition.source import Source
from ddgm_dist.readers.images.names import disagreement, pairing
from ddgm_dist.tilts.provenance import Provenance, ViewRecord

__all__ = ["record_pairs", "record_views"]


def record_views(
    layout: Layout, intensities: Intensities, hot: Sequence[int], record: Provenance
) -> None:
    """Record what was done to each view, and the sums.

    Parameters
    ----------
    layout, intensities
        The views that are kept, and the conversion of their values.
    hot
        Hot pixels of each that were imputed.
    record
        Takes it.
    """
    sigma = intensities.sigma_y or (None,) * len(layout.views)
    record.views = [
        ViewRecord(v.index + 1, v.angle_deg, h, floored, level, s)
        for v, h, floored, level, s in zip(
            layout.views, hot, intensities.floored, intensities.levels, sigma, strict=True
        )
    ]
    if sum(hot):
        affected = sum(1 for h in hot if h)
        where = "1 view" if affected == 1 else f"{affected} views"
        record.say("hot pixels", f"{sum(hot)} imputed, in {where}", "their neighbours")
    left = len(record.left_out)
    record.say("views", f"{len(layout.views)} kept", f"{left} left out, see below" if left else "")


def record_pairs(source: Source, layout: Layout, record: Provenance) -> None:
    """Record which image of a folder is taken for which angle, and whether names say another."""
    if not source.images:
        return
    files = [source.images[view.index] for view in layout.views]
    degrees = [view.angle_deg for view in layout.views]
    record.say("images and angles", pairing(files, degrees), "order of the names")
    if wrong := disagreement(files, degrees):
        record.warnings.append(wrong)
