"""The result of a reconstruction: where the volume is, and figures of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddgm_dist.core.lines import labelled
from ddgm_dist.core.units import format_duration
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.start_in_words import start_in_words
from ddgm_dist.records.fit import Fit
from ddgm_dist.records.result import What, open_result
from ddgm_dist.volumes.store import VolumeStore

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """The result of :func:`ddgm_dist.reconstruct`: the volume's path, and figures of the run.

    Attributes
    ----------
    path
        Path or URL of the output store.
    problem, plan
        The problem that was solved, and its plan.
    residuals
        Per iteration done in this call: n, sigma, steps, root-mean-square residual.
    seconds
        Worker time per phase in this call, added over workers.
    wall_seconds
        Time this call took.
    gradient_share
        Gradient phase as a fraction of the iteration time; 0 when nothing was left to do.
    fit
        Whether the volume explains the data, and how large the residual is in each view. None if
        nothing was measured, or a former version has written the volume.
    """

    path: str
    problem: Problem
    plan: Plan
    residuals: list[dict[str, float]]
    seconds: dict[str, float]
    wall_seconds: float
    gradient_share: float
    fit: Fit | None = None

    def volume(self) -> VolumeStore:
        """The volume, open for reading."""
        return open_result(self.path)

    def std(self) -> VolumeStore:
        """The standard deviation of the samples at each voxel, open for reading.

        Raises
        ------
        InputError
            There is one sample.
        """
        return open_result(self.path, what="std")

    def to_dask(self, what: What = "mean") -> da.Array:
        """The volume as a lazy dask array ``(z, y, x)``, in the data's unit.

        Parameters
        ----------
        what
            As for :func:`ddgm_dist.open_result`: ``mean``, ``std`` or a kept sample.
        """
        return open_result(self.path, what=what).to_dask()

    def describe(self) -> str:
        """A summary of times and residuals, for people."""
        intensity = self.problem.intensity
        lines = [
            f"written         {self.path}",
            *self._preset(),
            f"intensity       mean {intensity.mean:.5g}, std {intensity.std:.5g} per voxel",
            labelled("noise", intensity.describe_noise(), 16),
        ]
        if start := start_in_words(self.problem.to_dict()):
            lines.append(labelled("start", start, 16))
        lines.append(f"wall time       {format_duration(self.wall_seconds)}")
        if self.residuals:
            last = self.residuals[-1]
            spent = ", ".join(f"{k} {v:.1f}" for k, v in sorted(self.seconds.items()) if v >= 0.05)
            lines += [
                f"residual        {last['residual']:.4g} per pixel (root mean square)",
                labelled("worker seconds", spent, 16),
                f"gradient phase  {100 * self.gradient_share:.1f} % of the iteration time",
            ]
        else:
            lines.append("nothing was left to do: every tile had been finished before")
        if self.fit is not None:
            lines.append(labelled("fit", self.fit.text(), 16))
        return "\n".join(lines)

    def _preset(self) -> list[str]:
        use = self.plan.preset
        return [] if use is None else [labelled("preset", use.describe(), 16)]
