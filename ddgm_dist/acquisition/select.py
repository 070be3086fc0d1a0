"""Leave out views that are certainly no measurement, and name the doubtful ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ddgm_dist.acquisition.layout import Layout, PlacedView
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.source import Source
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.provenance import LeftOut, Provenance
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.faults import ViewFault, find_faults
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["without_faulty"]

# Of more views than this share, something else is the matter than single bad ones.
_MOST = 0.34


def without_faulty(
    layout: Layout,
    statistics: Sequence[ViewStatistics],
    source: Source,
    options: IngestOptions,
    record: Provenance,
) -> tuple[Layout, list[ViewStatistics]]:
    """The layout without views that are blank, saturated or there twice.

    Parameters
    ----------
    layout, statistics
        Views that are kept so far, and their statistics in the same order.
    source, options
        The source and the options of the ingest.
    record
        Takes the views that are left out, and warnings of all faults.

    Raises
    ------
    InputError
        There are faulty views, and ``strict`` is set.
    """
    faults = find_faults(
        statistics,
        [view.angle_deg for view in layout.views],
        [_about_the_axis(view).binned(1 / options.bin) for view in layout.views],
        source.stack.shape[1:],
    )
    if faults and options.strict:
        raise InputError(
            "source",
            source.path,
            f"has {len(faults)} faulty views: {'; '.join(_text(f, layout) for f in faults[:3])}",
            f"leave them out with --exclude {_numbers(faults, layout)}, or leave out --strict",
        )
    # A displaced view is a measurement: whoever aligns it can use it.
    certain = {f.view for f in faults if f.certain and f.kind != "displaced"}
    if len(certain) > _MOST * len(layout.views):
        record.warnings.append(
            f"{len(certain)} of {len(layout.views)} views look faulty ({_text(faults[0], layout)}): "
            "none is left out"
        )
        return layout, list(statistics)
    for fault in faults:
        text = _text(fault, layout)
        if fault.view in certain:
            view = layout.views[fault.view]
            record.warnings.append(f"{text}: it is left out")
            why = f"{fault.kind}: {_detail(fault, layout)}"
            record.left_out.append(LeftOut(view.index + 1, view.angle_deg, why))
        else:
            number = layout.views[fault.view].index + 1
            record.warnings.append(f"{text}: it is kept; leave it out with --exclude {number}")
    kept = [i for i in range(len(layout.views)) if i not in certain]
    return (
        replace(layout, views=tuple(layout.views[i] for i in kept)),
        [statistics[i] for i in kept],
    )


def _about_the_axis(view: PlacedView) -> Affine:
    """The map of a view with the shift that the operator takes into account."""
    dy, dx = view.shift_px
    return view.affine.then(Affine(dx=-dx, dy=-dy))


def _text(fault: ViewFault, layout: Layout) -> str:
    """The fault with the number that its view has in the source."""
    view = layout.views[fault.view]
    place = f"view {view.index + 1} ({view.angle_deg:+.4g} degrees)"
    return f"{place} is {fault.kind}: {_detail(fault, layout)}"


def _detail(fault: ViewFault, layout: Layout) -> str:
    if fault.other is None:
        return fault.detail
    other = layout.views[fault.other]
    return f"its pixels equal those of view {other.index + 1} ({other.angle_deg:+.4g} degrees)"


def _numbers(faults: Sequence[ViewFault], layout: Layout) -> str:
    return ",".join(str(layout.views[fault.view].index + 1) for fault in faults)
