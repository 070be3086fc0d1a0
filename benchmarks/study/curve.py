"""The curve: error and SSIM of every method against the calls of its networks, 1 to 150.

    python benchmarks/study/curve.py [--noise 0.05 0.3 1] [--method NAME ...] [--slices 2] [--show]

It is in the reference geometry, on slices that are scored. Settings are those that the search found for
50 calls (from zero), or for 16 or 50 (from a restored start): whichever number is nearer on a scale of
ratios. Ours takes those of the preset with as many calls or fewer, and one sample. So a method may be
better at other numbers of calls than it is drawn: its settings are its own at 16 or 50 calls alone.

Figures go to benchmarks/results/study/curve.json after every run; existing ones are kept without
--again. They are drawn to curve.png beside it, with --show alone too.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from cells import NOISES, REFERENCES, RESULTS, SCORE_ROWS, SEARCH_ROWS, Cell, cells, fraction
from method import Settings
from methods import (
    DDGM_DEFAULT,
    OURS,
    PRESETS,
    TODAY,
    WARM_N,
    method_of,
    warm_name,
)
from results import change, load
from search import Record
from slabs import Slab, made_fresh, make_slab
from table import load as load_table
from verdict import classical, least

mpl.use("Agg")
import matplotlib.pyplot as plt

SEED, N_SEARCHED = 0, 50
FILE = RESULTS / "curve.json"
CALLS = (1, 2, 3, 4, 8, 16, 50, 150)
COLD = ("PnP-PGD", "DPIR", "DPIR, exact step", "DDRM", "DPS", "DiffPIR", "DDGM")
WARM = ("PnP-PGD", "DPIR", "DPIR, exact step", "DDRM", "DiffPIR")
ALONE, OURS_CURVE = "restorer alone", "ours"
NAMES = (*COLD, TODAY, *(f"{name}, restored start" for name in WARM), ALONE, OURS_CURVE)
COLOURS = {name: f"C{index}" for index, name in enumerate((*COLD, TODAY, ALONE))}
COLOURS[OURS_CURVE] = "black"
# A restorer may be called so often.
_MOST_ALONE = 8


@dataclass(frozen=True)
class Point:
    """A run of the curve.

    Attributes
    ----------
    name, calls
        Curve; calls of both networks.
    method
        Method that is run.
    settings
        Of the run, with N; None if the search has none.
    """

    name: str
    calls: int
    method: str
    settings: Settings | None


def points(name: str, record: Record) -> Iterator[Point]:
    """The runs of a curve."""

    def best(method: str, N: int) -> Settings | None:
        return {**record.best(method), "N": N} if record.of(method) else None

    for calls in CALLS:
        if name == ALONE:
            if calls <= _MOST_ALONE:
                yield Point(name, calls, ALONE, {"restorer_calls": calls})
        elif name == OURS_CURVE:
            point = _ours(calls)
            if point is not None:
                yield point
        elif name == TODAY:
            yield Point(name, calls, "DDGM", {**DDGM_DEFAULT, "N": calls})
        elif name in COLD:
            yield Point(name, calls, name, best(name, calls))
        elif calls > 1:
            own = min(WARM_N, key=lambda N: abs(math.log((N + 1) / calls)))
            method = warm_name(name.removesuffix(", restored start"), own)
            yield Point(name, calls, method, best(method, calls - 1))


def _ours(calls: int) -> Point | None:
    """Ours with so many calls in all, as the preset that takes as many or fewer."""

    def of_sample(preset: str) -> int:
        return PRESETS[preset].N + int(PRESETS[preset].settings["restorer_calls"])

    fitting = [name for name in PRESETS if of_sample(name) <= calls]
    preset = max(fitting, key=of_sample) if fitting else min(PRESETS, key=of_sample)
    settings = PRESETS[preset].settings
    N = calls - int(settings["restorer_calls"])
    if N < 0:
        return None
    return Point(OURS_CURVE, calls, OURS[preset], {**settings, "N": N})


def run(slab: Slab, point: Point) -> dict:
    """Run a point, and score it."""
    method, slab = method_of(point.method), made_fresh(slab)
    assert point.settings is not None, "it was searched"
    before = replace(slab.calls)
    started = time.process_time()
    x = method.run(slab, point.settings, SEED)
    seconds = time.process_time() - started
    made = slab.calls.forward + slab.calls.restorer - before.forward - before.restorer
    assert made == point.calls, f"{point.name}: {made} calls in place of {point.calls}"
    finite = bool(torch.isfinite(x).all())
    scores = slab.score(x) if finite else {"nmse": math.inf, "ssim": 0.0}
    return {
        **_place(slab, point),
        "nmse": min(scores["nmse"], 100.0),
        "ssim": scores["ssim"],
        "seconds": round(seconds, 2),
        "threads": torch.get_num_threads(),
    }


def _place(slab: Slab, point: Point) -> dict:
    """What a result is of: the same again need not be run."""
    networks = method_of(point.method).networks(slab.prior, slab.restored_by)
    return {
        "noise": slab.cell.noise,
        "rows": list(slab.cell.rows),
        "method": point.name,
        "calls": point.calls,
        "settings": dict(point.settings or {}),
        **networks,
    }


def measure(cell: Cell, names: list[str], work: Path, *, again: bool) -> None:
    """Run the points of a cell that the file lacks."""
    slab = make_slab(cell, work)
    searched = replace(cell, rows=SEARCH_ROWS[cell.specimen])
    record = Record(searched, N_SEARCHED, slab.prior, slab.restored_by)
    for point in (point for name in names for point in points(name, record)):
        if point.settings is None:
            print(f"{point.name}: left out, search.py has no trial of {point.method}", flush=True)
            continue
        wanted = _place(slab, point)
        if not again and any(wanted.items() <= line.items() for line in load(FILE, [])):
            continue
        line = run(slab, point)
        same = {key: line[key] for key in ("noise", "method", "calls")}

        def with_line(found: list[dict], line: dict = line, same: dict = same) -> list[dict]:
            return [r for r in found if not same.items() <= r.items()] + [line]

        change(FILE, [], with_line)
        print(f"{cell.label} {point.name} {point.calls}: nmse {line['nmse']:.4f}", flush=True)


def draw(found: list[dict], out: Path) -> None:
    """Error above, SSIM below, levels of noise across."""
    figure, axes = plt.subplots(2, len(NOISES), figsize=(13, 8), sharex=True, squeeze=False)
    for column, noise in enumerate(NOISES):
        (cell,) = cells(REFERENCES[:1], [noise], SCORE_ROWS)
        table = {line["method"]: line for line in load_table(RESULTS, cell)}
        without = least(classical(table))
        for score, axis in zip(("nmse", "ssim"), axes[:, column], strict=True):
            for name in NAMES:
                lines = [r for r in found if (r["noise"], r["method"]) == (noise, name)]
                lines.sort(key=lambda r: r["calls"])
                ours = name == OURS_CURVE
                style = "--" if name.endswith("restored start") else "-"
                axis.plot(
                    [r["calls"] for r in lines],
                    [r[score] for r in lines],
                    style,
                    marker="o",
                    ms=5 if ours else 2.5,
                    lw=2.5 if ours else 1,
                    color=COLOURS[name.removesuffix(", restored start")],
                    label=name,
                )
            if without is not None:
                axis.axhline(without[score], color="grey", ls=":", label="best without a network")
            shown = [r[score] for r in found if r["noise"] == noise]
            if shown and score == "nmse":
                axis.set_yscale("log")
                axis.set_ylim(0.9 * min(shown), min(1.2, 1.1 * max(shown)))
            axis.set_xscale("log")
            axis.set_xticks(CALLS, [str(calls) for calls in CALLS])
            axis.set_title(f"noise {noise:.0%}", fontsize=9)
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("NMSE")
    axes[1, 0].set_ylabel("SSIM")
    axes[1, len(NOISES) // 2].set_xlabel("calls of the denoiser and of the restorer")
    axes[0, -1].legend(fontsize=6, ncols=2)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)


def show(found: list[dict]) -> None:
    """NMSE by calls, as markdown."""
    for noise in NOISES:
        print(f"\n**Noise {noise:.0%}**\n\n| method | " + " | ".join(map(str, CALLS)) + " |")
        print("| --- " * (len(CALLS) + 1) + "|")
        for name in NAMES:
            by_calls = {
                r["calls"]: r["nmse"] for r in found if (r["noise"], r["method"]) == (noise, name)
            }
            values = [by_calls.get(calls, np.nan) for calls in CALLS]
            texts = ["" if np.isnan(v) else f"{v:.4f}" for v in values]
            print(f"| {name} | " + " | ".join(texts) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=fraction, nargs="+", default=NOISES, help="0.05 is 5 %%")
    parser.add_argument("--method", nargs="+", choices=NAMES, metavar="NAME", default=list(NAMES))
    parser.add_argument("--slices", type=int, default=2, help="scored, of four")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--show", action="store_true", help="draw what has been measured")
    parser.add_argument("--threads", type=int, default=1, help="of this process")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ddgm-study")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for cell in () if args.show else cells(REFERENCES[:1], args.noise, SCORE_ROWS, args.slices):
        measure(cell, args.method, args.work, again=args.again)
    found = load(FILE, [])
    show(found)
    draw(found, RESULTS / "curve.png")


if __name__ == "__main__":
    main()
