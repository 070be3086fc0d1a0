"""Two independent projectors, and the analytic one, agree on smooth phantoms.

Bounds, for Gaussian blobs of standard deviation 2 to 4 voxels: projections to 3e-3 relative at any
angle up to 70 degrees. Gradients agree to 1e-2 in their smooth part at any angle. 20 steps agree to
2e-2 voxel by voxel up to 30 degrees, and to 2e-2 in their smooth part up to 45. At steeper tilts a
projector that steps through voxels differs. Its adjoint leaves alias images of the widely spaced
rays, above the band of the detector. The slab operator has none.
"""

import math

import pytest
import torch
from torch import Tensor

from ddgm_dist.core.geometry import Boundary, Geometry
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.interpolated import InterpolatedOperator
from ddgm_dist.operators.slab.operator import SlabOperator

Blob = tuple[float, float, float, float]  # height, z, x (from the centre), standard deviation
BLOBS: tuple[Blob, ...] = (
    (1.0, 0.0, 0.0, 3.0),
    (1.4, 4.2, -21.3, 2.0),
    (-0.8, -6.0, 17.7, 2.6),
    (0.6, 2.5, 26.1, 4.0),
    (1.1, -9.1, -8.4, 2.2),
)
THICKNESS, FIELD = 41, 120


def volume(geometry: Geometry) -> Tensor:
    z = (torch.arange(THICKNESS) - (THICKNESS - 1) / 2)[:, None]
    x = torch.arange(*geometry.domain) - (FIELD - 1) / 2
    parts = [a * torch.exp(-((z - c) ** 2 + (x - d) ** 2) / (2 * w * w)) for a, c, d, w in BLOBS]
    return torch.stack(parts).sum(dim=0)[:, None]


def analytic(geometry: Geometry) -> Tensor:
    """Line integrals of the blobs, float32 ``(tilt, 1, field)``."""
    u = torch.arange(FIELD, dtype=torch.float64) - (FIELD - 1) / 2
    out = torch.zeros(geometry.tilts, 1, FIELD, dtype=torch.float64)
    for t, theta in enumerate(geometry.angles):
        for a, z, x, w in BLOBS:
            centre = x * math.cos(theta) + z * math.sin(theta) + geometry.shift(t)[1]
            height = a * w * math.sqrt(2 * math.pi)
            out[t, 0] += height * torch.exp(-((u - centre) ** 2) / (2 * w * w))
    return out.float()


ANGLES = (-70.0, -52.5, -31.0, 0.0, 12.0, 45.0, 60.0, 70.0)
SHIFTS = tuple((0.0, s) for s in (3.25, -2.5, 0.4, -0.5, 1.0, 0.0, -3.7, 2.2))


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
@pytest.mark.parametrize("shifts", [(), SHIFTS], ids=["aligned", "shifted"])
def test_the_projectors_agree_with_each_other_and_with_calculus(
    boundary: Boundary, shifts: tuple[tuple[float, float], ...]
):
    geometry = Geometry(ANGLES, THICKNESS, 1, FIELD, shifts, boundary)
    spatial, slab = InterpolatedOperator(geometry), SlabOperator(geometry)
    x, truth = volume(geometry), analytic(geometry)
    projected = spatial.A(x)
    seen = spatial.measured()
    for reference, bound in ((projected, 3e-3), (truth, 1e-3)):
        data = slab.prepare(reference)
        left = slab.residual(x, data)
        for t in range(geometry.tilts):
            assert float(left[t].norm()) < bound * float(data.stretched[t].norm())
    for t in range(geometry.tilts):
        error = (seen * (projected - truth))[t].norm()
        assert float(error) < 3e-3 * float(truth[t].norm())


def smooth(x: Tensor, width: float) -> Tensor:
    """Gaussian blur along x."""
    k = 2 * math.pi * torch.fft.rfftfreq(x.shape[-1], dtype=torch.float64)
    return torch.fft.irfft(
        torch.fft.rfft(x.double()) * torch.exp(-((k * width) ** 2) / 2), n=x.shape[-1]
    )


def descents(steepest: float, boundary: Boundary, steps: int, times: int) -> tuple[Tensor, Tensor]:
    """Slab and spatial descent from zero on analytic data; the domain's columns."""
    angles = tuple(torch.linspace(-steepest, steepest, 15).tolist())
    geometry = Geometry(angles, THICKNESS, 1, FIELD, boundary=boundary)
    slab, spatial, data = SlabOperator(geometry), InterpolatedOperator(geometry), analytic(geometry)
    eta = 1 / norm_squared(geometry)
    prepared, x = slab.prepare(data), torch.zeros_like(volume(geometry))
    reference = spatial.descend(x, data, steps * times, eta)
    for _ in range(times):
        x, _ = slab.descend(x, prepared, steps, eta)
    return x, reference


def difference(got: Tensor, reference: Tensor, width: float = 0.0) -> float:
    """Relative, over the field of view, after a blur."""
    pad = (got.shape[-1] - FIELD) // 2
    a, b = (smooth(v, width)[..., pad : pad + FIELD] for v in (got, reference))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
def test_descents_agree_up_to_30_degrees(boundary: Boundary):
    assert difference(*descents(30, boundary, steps=4, times=5)) < 2e-2


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
def test_the_smooth_part_of_descents_agrees_up_to_45_degrees(boundary: Boundary):
    assert difference(*descents(45, boundary, steps=4, times=5), width=1.0) < 2e-2


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
@pytest.mark.parametrize("steepest", [60.0, 70.0])
def test_the_smooth_part_of_gradients_agrees_at_any_angle(boundary: Boundary, steepest: float):
    assert difference(*descents(steepest, boundary, steps=1, times=1), width=2.0) < 1e-2
