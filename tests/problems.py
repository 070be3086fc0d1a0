"""Problems without data: all that planning looks at."""

from collections.abc import Callable
from typing import Any

import pytest

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.restored_start import RestorerTraits

MakeProblem = Callable[..., Problem]


@pytest.fixture(scope="session")
def make_problem() -> MakeProblem:
    def make(
        thickness: int = 12,
        rows: int = 8,
        field: int = 96,
        tilt: float = 50.0,
        traits: RestorerTraits | None = None,
        **keys: Any,
    ) -> Problem:
        config = ProblemConfig(**keys)
        geometry = Geometry(
            angles_deg=(-tilt, 0.0, tilt),
            thickness=thickness,
            rows=rows,
            field=field,
            boundary=config.boundary,
        )
        return Problem.derive(
            geometry,
            config,
            Intensity(100.0, 30.0, 3.0),
            stride=8,
            data_digest="d" * 64,
            denoiser_digest="e" * 64,
            restorer=traits,
            step_size=1e-3,
        )

    return make
