"""From the layout and the intensities to the views as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ddgm_dist.acquisition.intensities import Intensities
from ddgm_dist.acquisition.layout import Layout
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import PreparedView, PreparedViews
from ddgm_dist.acquisition.source import Source
from ddgm_dist.views.kept_part import KeptPart

__all__ = ["kept_parts", "prepare_views", "stored_dtype"]


def kept_parts(source: Source, layout: Layout, bin: int) -> list[KeptPart]:
    """Parts of the images that are stored, for images that are binned so many times."""
    _, height, width = source.stack.shape
    before = (height // bin, width // bin)
    return [
        KeptPart(view.affine, before, layout.size, layout.y, layout.u, bin) for view in layout.views
    ]


def prepare_views(
    source: Source,
    layout: Layout,
    intensities: Intensities,
    thresholds: Sequence[float | None],
    options: IngestOptions,
) -> PreparedViews:
    """The views as they are stored; hot pixels are imputed only where they would spread.

    Parameters
    ----------
    source, layout, intensities
        The source, where its pixels go, and how their values are converted.
    thresholds
        Distance by which hot pixels of each view stand out; None where there are none.
    options
        Options of the ingest.
    """
    views = tuple(
        PreparedView(view.index, view.affine, None, level)
        for view, level in zip(layout.views, intensities.levels, strict=True)
    )
    prepared = PreparedViews(
        stack=source.stack,
        views=views,
        size=layout.size,
        y=layout.y,
        u=layout.u,
        bin=options.bin,
        dark=intensities.dark,
        flat=intensities.flat,
        gain=intensities.gain,
    )
    turned = any(abs(view.affine.a12) > 0 for view in layout.views)
    prepared = replace(prepared, by_view=source.by_view or turned or prepared.is_resampled)
    if prepared.is_plain or not options.despike:
        return prepared
    spared = tuple(
        replace(view, threshold=threshold)
        for view, threshold in zip(views, thresholds, strict=True)
    )
    return replace(prepared, views=spared)


def stored_dtype(views: PreparedViews, *, measured: bool) -> np.dtype[Any]:
    """Dtype of the store: small integers are kept (half the bytes); float32 holds all of them exactly.

    Parameters
    ----------
    views
        The views as they will be stored.
    measured
        Whether all pixels are measured; integers have no NaN.
    """
    dtype = views.stack.dtype
    small = dtype.kind in "iu" and dtype.itemsize <= 2
    keeps = views.is_plain and small and measured
    return dtype.newbyteorder("=") if keeps else np.dtype(np.float32)
