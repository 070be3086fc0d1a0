"""The problem: everything that fixes the answer, as data, with a hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from ddgm_dist.algorithm.planes import Plane, halo_rows
from ddgm_dist.algorithm.schedule import (
    IMPUTED_EVERY,
    Schedule,
    denoising_steps,
    make_schedule,
    noise_levels,
)
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.noise import ROW_LATTICE_STREAM
from ddgm_dist.core.window import WindowLattice, make_lattice
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.inverse import DAMPING, LEAST_NOISE, STEPS
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem_changes import UNSAID
from ddgm_dist.planning.restored_start import RestoredStart, RestorerTraits
from ddgm_dist.planning.tiling import widest_read

__all__ = ["Problem"]

# Constants of the exact data step: other ones are another problem.
_EXACT = {"steps": STEPS, "damping": DAMPING, "least_noise": LEAST_NOISE}
_OF_START = ("start", "restorer", "restorer_calls", "start_share")


@dataclass(frozen=True)
class Problem:
    """A problem to solve. Equal problems give equal volumes, whatever plan and engine.

    Attributes
    ----------
    config
        The resolved problem keys.
    geometry
        Geometry of the tilt series.
    intensity
        The map from the data's unit to the prior's.
    step_size
        eta.
    schedule
        K_n, sigma_n, s_n.
    lattice
        Denoiser windows.
    lattice_rows
        Denoiser windows along y; None when all iterations denoise in the plane zx.
    rows_per_call
        Rows of one block: the unit of every computation along y. Blocks start at multiples of it.
    data_digest, denoiser_digest
        SHA-256 of the tilt series and of the denoiser.
    screen
        Rule for pixels that are masked although they are numbers; None when none are.
    restored
        The start from a restored estimate; None when tiles begin with zeros.
    """

    config: ProblemConfig
    geometry: Geometry
    intensity: Intensity
    step_size: float
    schedule: Schedule
    lattice: WindowLattice
    rows_per_call: int
    data_digest: str
    denoiser_digest: str
    lattice_rows: WindowLattice | None = None
    screen: Screen | None = None
    restored: RestoredStart | None = None

    @staticmethod
    def derive(
        geometry: Geometry,
        config: ProblemConfig,
        intensity: Intensity,
        *,
        stride: int,
        data_digest: str,
        denoiser_digest: str,
        screen: Screen | None = None,
        restorer: RestorerTraits | None = None,
        domain: tuple[int, int] | None = None,
        step_size: float | None = None,
    ) -> Problem:
        """The problem of a geometry and a configuration: step size, schedule, windows, block of rows.

        Parameters
        ----------
        geometry, config, intensity
            Geometry, configuration and intensity of the problem.
        stride
            Stride of the denoiser.
        data_digest, denoiser_digest, screen
            Stored in the problem as they are.
        restorer
            Traits of the restorer; used where the configuration starts with it.
        domain
            First and last column (exclusive) that one window lattice covers at once; by default what the
            geometry's tiles read.
        step_size
            eta, where it is known already; else that of the configuration, or 1 / ||A||^2.

        Raises
        ------
        InputError
            With that step size descent diverges, or windows cannot overlap as they should.
        """
        if step_size is None:
            step_size = _step_size(geometry, config)

        def windows(stride: int) -> WindowLattice:
            return make_lattice(
                domain or geometry.domain,
                max_width=config.window,
                overlap=config.overlap,
                stride=stride,
                extent=None if domain else widest_read(geometry, config),
            )

        lattice_rows = restored = None
        if config.start == "restored":
            if restorer is None:
                raise ValueError("a restored start needs the traits of its restorer")
            if config.restorer_calls > 1 and not restorer.repeats:
                raise InputError(
                    "restorer_calls",
                    config.restorer_calls,
                    f"must be 1: {config.restorer} takes no estimates of a call before",
                    "give one that was trained for more, or a function with repeats = True",
                )
            restored = RestoredStart(restorer, windows(restorer.stride), config.restorer_calls)
        if config.rotates:
            lattice_rows = make_lattice(
                (0, geometry.rows),
                max_width=config.window_rows,
                overlap=config.overlap_rows,
                stride=stride,
                stream=ROW_LATTICE_STREAM,
                argument="window_rows",
            )
        return Problem(
            config=config,
            geometry=geometry,
            intensity=intensity,
            step_size=step_size,
            schedule=_schedule(config, step_size, intensity),
            lattice=windows(stride),
            rows_per_call=min(config.rows_per_call, geometry.rows),
            data_digest=data_digest,
            denoiser_digest=denoiser_digest,
            lattice_rows=lattice_rows,
            screen=screen,
            restored=restored,
        )

    def seed(self, sample: int) -> int:
        """The seed of a sample: the only thing in which samples differ."""
        return self.config.seed + sample

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values.

        Values as in `UNSAID` are left out. So a new key does not change the digests of older problems,
        whose outputs can be resumed. The interval of imputation is included where it matters.
        """
        config = self.config.model_dump(mode="json")
        for key in ("samples", "schedule", "despike", "discrepancy", *_OF_START):
            if config[key] == UNSAID[f"config.{key}"]:
                del config[key]
        if self.restored is None:
            config.pop("restorer", None)  # they are not used
            config.pop("restorer_calls", None)
        intensity = asdict(self.intensity)
        if self.intensity.misfit <= self.intensity.sigma_y:  # it makes no difference
            del intensity["misfit"]
        often = max(self.schedule.steps, default=0) > IMPUTED_EVERY
        return {
            "config": config,
            **({"imputed_every": IMPUTED_EVERY} if often else {}),
            **({} if self.screen is None else {"screen": self.screen.to_dict()}),
            **({} if self.restored is None else {"restored": asdict(self.restored)}),
            **({"exact_step": _EXACT} if self.config.step_rule == "proximal" else {}),
            "geometry": asdict(self.geometry),
            "intensity": intensity,
            "step_size": self.step_size,
            "schedule": asdict(self.schedule),
            "lattice": asdict(self.lattice),
            "lattice_rows": None if self.lattice_rows is None else asdict(self.lattice_rows),
            "rows_per_call": self.rows_per_call,
            "data_digest": self.data_digest,
            "denoiser_digest": self.denoiser_digest,
        }

    @property
    def halo(self) -> int:
        """Rows that a tile reads beyond its own on each side."""
        if self.lattice_rows is None:
            return 0
        return halo_rows(self.lattice_rows, self.rows_per_call)

    def slices_per_call(self, plane: Plane) -> int:
        """Slices of one denoiser call, of about as many voxels as a call in the plane zx."""
        if plane == "zx" or self.lattice_rows is None:
            return self.rows_per_call
        height = self.lattice_rows.width
        across = self.lattice.width if plane == "zy" else self.geometry.thickness
        return max(1, self.rows_per_call * across // height)

    def digest(self) -> str:
        """SHA-256 digest of :meth:`to_dict` as JSON, in hexadecimal."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _step_size(geometry: Geometry, config: ProblemConfig) -> float:
    norm = norm_squared(geometry)
    step_size = config.step_size or 1 / norm
    if step_size >= 2 / norm:
        raise InputError(
            "step_size", step_size, f"must be below 2/||A||^2 = {2 / norm:.4g}, or descent diverges"
        )
    return step_size


def _schedule(config: ProblemConfig, step_size: float, intensity: Intensity) -> Schedule:
    first, last = config.s_1 or config.sigma_1, config.s_N or config.sigma_N
    exact = config.step_rule == "proximal"  # no gradient steps
    return make_schedule(
        N=config.N,
        K=0 if exact else config.K,
        sigma=noise_levels(config.schedule, config.sigma_1, config.sigma_N, config.N),
        added_noise=config.added_noise,
        denoising_step=denoising_steps(config.schedule, first, last, config.N),
        rule="paper" if config.step_rule == "proximal" else config.step_rule,
        step_size=step_size,
        sigma_y=intensity.uncertainty / intensity.std,
        data_weight_cap=config.data_weight_cap,
    )
