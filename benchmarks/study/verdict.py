"""Every cell of the study in one line, and whether the presets of ours meet their goals.

A *rival* is any other method with one sample and at most 50 calls of the networks, at its own best
settings: today's default, the restorer alone and other methods with a restored start among them. DDGM
with a restored start and searched settings is no rival: it says how far the preset is from the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from methods import METHODS, OURS, TODAY, WARM_N, warm_name

Lines = Mapping[str, dict]
Cells = Mapping[tuple[str, float], Lines]
# Calls of the denoiser and of the restorer that a rival may take.
MOST_CALLS = 50
# Of methods that come in several lines, the best one is shown.
FAMILIES = {
    "PnP": "PnP-PGD",
    "DPIR": "DPIR",
    "DDRM": "DDRM",
    "DPS": "DPS",
    "DiffPIR": "DiffPIR",
    "DDGM": "DDGM",
}
ALONE, STEP = "restorer alone", "restorer, one data step"
DEFAULT = OURS["default"]
SEARCHED = tuple(warm_name("DDGM", N) for N in WARM_N)


def calls(line: dict) -> int:
    """Calls of both networks."""
    return int(line["denoiser_calls"]) + int(line.get("restorer_calls", 0))


def classical(lines: Lines) -> list[dict]:
    """Lines of methods without networks."""
    return [
        line
        for name, line in lines.items()
        if name in METHODS and not (METHODS[name].denoises or METHODS[name].restores)
    ]


def rivals(lines: Lines) -> list[dict]:
    """Lines that the default has to beat."""
    return [
        line
        for name, line in lines.items()
        if name not in (*OURS.values(), *SEARCHED)
        and line["samples"] == 1
        and calls(line) <= MOST_CALLS
    ]


def least(lines: list[dict]) -> dict | None:
    """The line with the least error."""
    return min(lines, key=lambda line: line["mse"]) if lines else None


def family(lines: Lines, name: str) -> dict | None:
    """The best line of a method, with and without a restored start."""
    return least([r for r in rivals(lines) if r["method"].split(",")[0] == FAMILIES[name]])


def better(lines: Lines) -> list[dict] | None:
    """Rivals that are better than the default in error or in SSIM; None if it was not measured."""
    ours = lines.get(DEFAULT)
    if ours is None:
        return None
    return [r for r in rivals(lines) if r["mse"] <= ours["mse"] or r["ssim"] >= ours["ssim"]]


def figures(line: dict | None) -> str:
    """NMSE and SSIM."""
    return f"{line['nmse']:.4f} ({line['ssim']:.3f})" if line else ""


def judged(lines: Lines) -> str:
    """Whether the default is ahead of every rival, and else who is not behind, and in what."""
    found, ours = better(lines), lines.get(DEFAULT)
    if found is None or ours is None:
        return "not measured"
    if not found:
        return f"ahead of {len(rivals(lines))}"
    words = []
    for line in found:
        kinds = ["MSE"] * (line["mse"] <= ours["mse"]) + ["SSIM"] * (line["ssim"] >= ours["ssim"])
        words.append(f"{line['method']} {figures(line)} in {' and '.join(kinds)}")
    return "**no**: " + "; ".join(words)


def summarise(found: Cells) -> None:
    """A line per cell: NMSE (SSIM) of the best classical method, of every rival's best, and of ours."""
    heads = ["best classical", TODAY, *FAMILIES, ALONE, STEP, *OURS.values(), "ours, searched"]
    print("\n| geometry | noise | " + " | ".join(heads) + " | default ahead of every rival |")
    print("| --- " * (len(heads) + 3) + "|")
    for (name, noise), lines in found.items():
        best = least(classical(lines))
        columns = [f"{best['method']}, {figures(best)}" if best else "", figures(lines.get(TODAY))]
        columns += [figures(family(lines, head)) for head in FAMILIES]
        columns += [figures(lines.get(head)) for head in (ALONE, STEP, *OURS.values())]
        columns.append(figures(least([lines[head] for head in SEARCHED if head in lines])))
        print(f"| {name} | {noise:.0%} | " + " | ".join(columns) + f" | {judged(lines)} |")


def ratios(
    found: Cells,
    ours: str,
    other: Callable[[Lines], dict | None],
    noises: tuple[float, ...] | None = None,
) -> dict[tuple[str, float], float]:
    """MSE of a preset over that of another line, by cell, where both were measured."""
    pairs = {
        place: (lines.get(OURS[ours]), other(lines))
        for place, lines in found.items()
        if noises is None or place[1] in noises
    }
    return {place: a["mse"] / b["mse"] for place, (a, b) in pairs.items() if a and b}


def mean(values: Mapping[tuple[str, float], float]) -> float:
    """Geometric mean."""
    return math.exp(sum(map(math.log, values.values())) / len(values)) if values else math.nan


def goals(found: Cells) -> None:
    """What was asked of the presets, and what they reach, as markdown."""
    judgements = {place: better(lines) for place, lines in found.items()}
    measured = {place: rivals for place, rivals in judgements.items() if rivals is not None}
    ahead = [place for place, rivals in measured.items() if not rivals]
    print(
        f"\n{DEFAULT} has a lower MSE and a higher SSIM than every rival in {len(ahead)} of "
        f"{len(measured)} cells ({len(found)} in all)."
    )
    too_many = [
        f"{name} at {noise:.0%}: {calls(lines[DEFAULT])}"
        for (name, noise), lines in found.items()
        if DEFAULT in lines and calls(lines[DEFAULT]) > 16
    ]
    if too_many:
        print(f"It takes more than 16 calls: {'; '.join(too_many)}.")

    def best_classical(lines: Lines) -> dict | None:
        return least(classical(lines))

    def today(lines: Lines) -> dict | None:
        return lines.get(TODAY)

    print("\n| MSE of | over that of | geometric mean | goal | worst cell | cells |")
    print("| --- | --- | --- | --- | --- | --- |")
    for ours, name, other, noises, goal in (
        ("default", TODAY, today, None, 0.85),
        ("fast", TODAY, today, None, 1.0),
        ("best", "the best classical at 5%", best_classical, (0.05,), 0.50),
        ("best", "the best classical at 100%", best_classical, (1.0,), 0.55),
    ):
        values = ratios(found, ours, other, noises)
        if not values:
            continue
        place = max(values, key=lambda key: values[key])
        reached = mean(values)
        verdict = f"{reached:.3f}" if reached <= goal else f"**{reached:.3f}**"
        print(
            f"| {OURS[ours]} | {name} | {verdict} | {goal:g} | {place[0]} at {place[1]:.0%}, "
            f"{values[place]:.3f} | {len(values)} |"
        )
