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
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.tiling import widest_read

__all__ = ["Problem", "changes", "differences"]

# Fields that a problem's dictionary lacks when they have these values.
UNSAID: dict[str, Any] = {
    "config.samples": 1,
    "config.schedule": "exponential",
    "config.despike": True,
    "config.discrepancy": "auto",
    "intensity.misfit": 0.0,
    "imputed_every": None,
    "screen": None,
}


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
        lattice_rows = None
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
            lattice=make_lattice(
                domain or geometry.domain,
                max_width=config.window,
                overlap=config.overlap,
                stride=stride,
                extent=None if domain else widest_read(geometry, config),
            ),
            rows_per_call=min(config.rows_per_call, geometry.rows),
            data_digest=data_digest,
            denoiser_digest=denoiser_digest,
            lattice_rows=lattice_rows,
            screen=screen,
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
        for key in ("samples", "schedule", "despike", "discrepancy"):
            if config[key] == UNSAID[f"config.{key}"]:
                del config[key]
        intensity = asdict(self.intensity)
        if self.intensity.misfit <= self.intensity.sigma_y:  # it makes no difference
            del intensity["misfit"]
        often = max(self.schedule.steps, default=0) > IMPUTED_EVERY
        return {
            "config": config,
            **({"imputed_every": IMPUTED_EVERY} if often else {}),
            **({} if self.screen is None else {"screen": self.screen.to_dict()}),
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
    return make_schedule(
        N=config.N,
        K=config.K,
        sigma=noise_levels(config.schedule, config.sigma_1, config.sigma_N, config.N),
        added_noise=config.added_noise,
        denoising_step=denoising_steps(config.schedule, first, last, config.N),
        rule=config.step_rule,
        step_size=step_size,
        sigma_y=intensity.uncertainty / intensity.std,
        data_weight_cap=config.data_weight_cap,
    )


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Fields in which two problems' dictionaries differ, as ``name: old -> new`` lines."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        unsaid = UNSAID.get(f"{prefix}{key}")
        a, b = old.get(key, unsaid), new.get(key, unsaid)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif json.dumps(a) != json.dumps(b):
            shown = [json.dumps(v) for v in (a, b)]
            cut = [s if len(s) <= 40 else s[:37] + "..." for s in shown]
            found.append(f"{prefix}{key}: {cut[0]} -> {cut[1]}")
    return found


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Changes by the user between two problems: settings, the tilt series, the denoiser.

    Consequences of these, such as the schedule of N, are left out. They are listed only where no change
    by the user explains them: then the package has changed.

    Parameters
    ----------
    old, new
        Dictionaries of problems.

    Returns
    -------
    tuple[list[str], list[str]]
        Changes in words; and ``KEY=VALUE`` of the settings that the old problem has.
    """
    a, b = _config(old), _config(new)
    keys = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    found = [f"{key}: {_shown(a.get(key))} -> {_shown(b.get(key))}" for key in keys]
    settings = [f"{key}={_shown(a[key])}" for key in keys if key in a]
    found += _tilt_series(old, new, thickness="thickness" in keys)
    if old.get("denoiser_digest") != new.get("denoiser_digest") and "denoiser" not in keys:
        found.append(f"what is in the denoiser {_shown(b.get('denoiser'))} (weights or source)")
    if found:
        return found, settings
    return [f"{line} (by another version of ddgm_dist)" for line in differences(old, new)], []


def _config(problem: dict[str, Any]) -> dict[str, Any]:
    """The settings of a problem, with those that go without saying."""
    prefix = "config."
    unsaid = {k.removeprefix(prefix): v for k, v in UNSAID.items() if k.startswith(prefix)}
    said: dict[str, Any] = problem.get("config", {})
    return unsaid | said


def _shown(value: Any) -> str:
    """A setting as it is written after ``--set KEY=``."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return value if isinstance(value, str) else json.dumps(value)


def _tilt_series(old: dict[str, Any], new: dict[str, Any], *, thickness: bool) -> list[str]:
    """Changes of the tilt series; of its thickness only if no setting says so."""
    a, b = old.get("geometry", {}), new.get("geometry", {})
    shape = [
        f"{len(g.get('angles_deg', ()))} tilts of {g.get('rows')} x {g.get('field')} pixels"
        for g in (a, b)
    ]
    found = []
    if shape[0] != shape[1]:
        found.append(f"the tilt series: {shape[0]} -> {shape[1]}")
    elif old.get("data_digest") != new.get("data_digest"):
        found.append("the pixels of the tilt series")
    if len(a.get("angles_deg", ())) == len(b.get("angles_deg", ())):
        for key, name in (("angles_deg", "angles"), ("shifts_px", "shifts")):
            if json.dumps(a.get(key)) != json.dumps(b.get(key)):
                found.append(f"the {name} of the tilt series")
    if a.get("thickness") != b.get("thickness") and not thickness:
        given = f"{a.get('thickness')} -> {b.get('thickness')}"
        found.append(f"the thickness that the tilt series has: {given}")
    return found
