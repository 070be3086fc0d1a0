"""The training curve: a picture of losses against steps."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ddgm_dist.paths.atomic import replace_file
from ddgm_dist.training.loop import TrainingHistory

__all__ = ["draw_curve"]


def draw_curve(path: Path, history: TrainingHistory) -> None:
    """Write a PNG of the loss in training, and in validation by noise level, atomically.

    An untrained network has a loss of 1.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    train, judged = figure.subplots(1, 2, sharey=True)
    for axes, title in ((train, "training (mean of 50 steps)"), (judged, "validation, by sigma")):
        axes.set(title=title, xlabel="step", yscale="log")
        axes.grid(alpha=0.3)
    train.set_ylabel("mean squared error of F")
    # A run shorter than 50 steps has no losses yet, and a log axis cannot be drawn without.
    steps, losses = zip(*history.train, strict=True) if history.train else ((0,), (1.0,))
    train.plot(steps, losses, marker="." if len(steps) < 3 else "")
    bands = history.validation[-1][1] if history.validation else {}
    for band in bands:
        points = [(step, figures[band]) for step, figures in history.validation]
        steps, losses = zip(*points, strict=True)
        judged.plot(steps, losses, marker="." if len(steps) < 3 else "", label=band)
    if bands:
        figure.legend(loc="outside right center", title="sigma", fontsize="small")
    # A canvas of our own, for pyplot's backend belongs to the caller.
    FigureCanvasAgg(figure)
    replace_file(path, lambda file: figure.savefig(file, format="png"))
