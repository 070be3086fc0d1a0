"""Problems without data: all that planning looks at."""

from collections.abc import Callable
from typing import Any

import pytest

from ddgm_dist.algorithm.schedule import make_schedule, noise_levels
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.window import make_lattice
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import widest_read

MakeProblem = Callable[..., Problem]


@pytest.fixture(scope="session")
def make_problem() -> MakeProblem:
    def make(
        thickness: int = 12, rows: int = 8, field: int = 96, tilt: float = 50.0, **keys: Any
    ) -> Problem:
        config = ProblemConfig(**keys)
        geometry = Geometry(
            angles_deg=(-tilt, 0.0, tilt),
            thickness=thickness,
            rows=rows,
            field=field,
            boundary=config.boundary,
        )
        sigma = noise_levels("exponential", config.sigma_1, config.sigma_N, config.N)
        return Problem(
            config=config,
            geometry=geometry,
            intensity=Intensity(100.0, 30.0, 1.0),
            step_size=1e-3,
            schedule=make_schedule(
                N=config.N,
                K=config.K,
                sigma=sigma,
                denoising_step=sigma,
                rule=config.step_rule,
                step_size=1e-3,
                sigma_y=0.1,
                data_weight_cap=config.data_weight_cap,
            ),
            lattice=make_lattice(
                geometry.domain,
                max_width=config.window,
                overlap=config.overlap,
                stride=8,
                extent=widest_read(geometry, config),
            ),
            rows_per_call=min(config.rows_per_call, rows),
            data_digest="d" * 64,
            denoiser_digest="e" * 64,
            lattice_rows=make_lattice(
                (0, rows), max_width=config.window_rows, overlap=config.overlap_rows, stride=8
            )
            if config.rotates
            else None,
        )

    return make
