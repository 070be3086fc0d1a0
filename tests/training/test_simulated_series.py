"""Simulated series follow the operator, and their inverses are the reconstruction's."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.inverse import regularized_inverse
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.training.model_errors import ModelErrors
from ddgm_dist.training.recorded_fields import RecordedField
from ddgm_dist.training.simulated_series import SimulatedSeries

DEPTH, ROWS, WIDTH = 12, 2, 64
FEW, MANY = (-50.0, -25.0, 0.0, 10.0, 40.0), tuple(float(a) for a in range(-60, 61, 5))
FIELDS = {
    "end": RecordedField(Geometry(MANY, DEPTH, 4, 300), (-11, 53)),
    "cut": RecordedField(Geometry(FEW, DEPTH, 4, 300), (70, 134)),
    "vacuum": RecordedField(Geometry(FEW, DEPTH, 4, 100, boundary="vacuum"), (36, 100), -2.0),
}


def tissue(blocks: int = 2) -> Tensor:
    return torch.randn(DEPTH, blocks * ROWS, WIDTH, generator=torch.Generator().manual_seed(3))


def series(
    angles: tuple[float, ...], noises: list[float], field: RecordedField | None = None
) -> SimulatedSeries:
    acquisition = Acquisition(angles, DEPTH)
    return SimulatedSeries(acquisition, tissue(), noises, np.random.default_rng(0), None, field)


def rows_of(data: SlabData, block: int) -> SlabData:
    return SlabData(data.stretched[:, block * ROWS : (block + 1) * ROWS], data.measured)


@pytest.mark.parametrize("angles", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("noises", [[0.05, 0.05], [0.2, 1.5]])
def test_periodic_inverses_are_exact(angles: tuple[float, ...], noises: list[float]) -> None:
    found = series(angles, noises)
    operator = SlabOperator(Geometry(angles, DEPTH, 2 * ROWS, WIDTH), (0, WIDTH))
    around = torch.randn(DEPTH, 2, WIDTH)
    stepped = found.inverse([1, 3], around, 0.1)  # the second row of both blocks
    for block, noise in enumerate(found.noise.tolist()):
        data = rows_of(found.data, block)
        exact = regularized_inverse(operator, data, noise, iterations=200)
        part = found.inverse()[:, block * ROWS : (block + 1) * ROWS]
        assert float((part - exact).norm() / exact.norm()) < 1e-3
        own = SlabData(data.stretched[:, 1:], data.measured)
        about = around[:, block : block + 1]
        exact = regularized_inverse(
            operator, own, noise, around=about, spread=0.1**0.5, iterations=200
        )
        error = stepped[:, block : block + 1] - exact
        assert float(error.norm() / (exact - about).norm()) < 1e-3


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("noise", [0.03, 0.15, 1.0])
def test_at_ends_they_are_what_the_reconstruction_computes(kind: str, noise: float) -> None:
    """Step by step, not only in the limit: what is learned is what is seen."""
    field = FIELDS[kind]
    found = series(field.geometry.angles_deg, [noise], field)
    operator = SlabOperator(field.geometry, field.columns, background=field.vacuum)
    sigma, around = float(found.noise[0]), torch.randn(DEPTH, 1, WIDTH)
    engine = regularized_inverse(operator, found.data, sigma)
    # At weak modes rounding grows.
    atol = 2e-3 * float(engine.std())
    torch.testing.assert_close(found.inverse(), engine, rtol=0, atol=atol)
    one = SlabData(found.data.stretched[:, 2:3], found.data.measured)
    engine = regularized_inverse(operator, one, sigma, around=around, spread=0.2)
    stepped = found.inverse([2], around, 0.04)
    torch.testing.assert_close(stepped, engine, rtol=0, atol=2e-3 * float(engine.std()))
    torch.testing.assert_close(found.coverage, operator.coverage(found.data.measured))
    # Unmeasured are exactly the rays that the operator says.
    unseen = (operator.measured_columns() == 0)[:, None].expand(found.data.stretched.shape)
    assert not found.data.stretched[unseen].any()


def test_noise_is_white_and_as_strong_as_was_asked_for() -> None:
    clean = torch.randn(DEPTH, 40, WIDTH, generator=torch.Generator().manual_seed(4))
    acquisition = Acquisition(MANY, DEPTH)

    def simulated(noise: float) -> SimulatedSeries:
        rng = np.random.default_rng(0)
        return SimulatedSeries(acquisition, clean.clone(), [noise], rng)

    quiet, noisy = simulated(1e-9), simulated(0.5)
    noise = noisy.data.stretched - quiet.data.stretched
    cos = np.cos(np.radians(MANY))
    # On the stretched grid white noise of the detector fills the band, a share cos of the spectrum.
    power = noise.square().mean(dim=(1, 2)).numpy() / cos
    spread = float((quiet.data.stretched.square().mean(dim=(1, 2)).sum() / cos.sum()).sqrt())
    assert power == pytest.approx(0.25 * spread**2, rel=0.15)
    # The reconstruction is told it, but for the error of its estimate.
    told = [float(series(MANY, [0.5, 0.5]).noise[0]) for _ in range(1)]
    assert told[0] == pytest.approx(float(noisy.noise[0]), rel=0.3)
    assert float(noisy.noise[0]) == pytest.approx(0.5 * spread, rel=0.35)


def test_errors_of_the_model_are_told_as_noise() -> None:
    acquisition, count = Acquisition(MANY, DEPTH), len(MANY)
    even = torch.ones(count)
    errors = ModelErrors(0.8 * torch.randn(count), even, 0.0, even)

    def told(errors: ModelErrors | None) -> float:
        rng = np.random.default_rng(5)
        return float(SimulatedSeries(acquisition, tissue(), [0.02], rng, errors).noise[0])

    assert told(errors) > 3 * told(None)
