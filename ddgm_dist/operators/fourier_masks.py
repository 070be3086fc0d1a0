"""Simulated masks of Fourier samples: random lines, and points of variable density."""

from __future__ import annotations

import torch
from torch import Tensor

from ddgm_dist.errors import InputError

__all__ = ["cartesian_mask", "variable_density_mask"]


def cartesian_mask(
    shape: tuple[int, int],
    acceleration: float,
    *,
    centre: float = 0.08,
    density: float = 2.0,
    seed: int = 0,
) -> Tensor:
    """Mask of whole lines along z at random columns of k-space, as of an accelerated Cartesian scan.

    Parameters
    ----------
    shape
        Shape ``(z, x)`` of the image.
    acceleration
        Number of lines over number of measured lines.
    centre
        Fraction of all lines that are measured for certain, the lowest frequencies.
    density
        Exponent p of the other lines' weight ``(1 - |k| / k_max)^p``; 0 draws evenly.
    seed
        Seed of the choice.

    Returns
    -------
    Tensor
        Float32 ``(z, x)``, frequency zero at index (0, 0); ``round(x / acceleration)`` lines.
    """
    z, columns = shape
    radius = torch.fft.fftfreq(columns, dtype=torch.float64).abs() * 2
    lines = _draw(radius, acceleration, centre=centre * columns, density=density, seed=seed)
    return lines.expand(z, columns).contiguous()


def variable_density_mask(
    shape: tuple[int, int],
    acceleration: float,
    *,
    centre: float = 0.04,
    density: float = 4.0,
    seed: int = 0,
) -> Tensor:
    """Mask of random points, denser at low frequencies: both axes of k-space are phase-encoded.

    Parameters
    ----------
    shape
        Shape ``(z, x)`` of the image.
    acceleration
        Number of points over number of measured points.
    centre
        Fraction of all points that are measured for certain, a disc of the lowest frequencies.
    density
        Exponent p of the other points' weight ``(1 - |k| / k_max)^p`` with k_max at the corner of
        k-space.
    seed
        Seed of the choice.

    Returns
    -------
    Tensor
        Float32 ``(z, x)``, frequency zero at index (0, 0); ``round(z x / acceleration)`` points.
    """
    k = [torch.fft.fftfreq(n, dtype=torch.float64) * 2 for n in shape]
    radius = torch.hypot(k[0][:, None], k[1][None, :])
    centre = centre * radius.numel()
    return _draw(radius / 2**0.5, acceleration, centre=centre, density=density, seed=seed)


def _draw(
    radius: Tensor, acceleration: float, *, centre: float, density: float, seed: int
) -> Tensor:
    """Choose positions without replacement, by weight; the ``centre`` lowest for certain."""
    if not acceleration >= 1:
        raise InputError("acceleration", acceleration, "must be at least 1: 1 measures everything")
    count, sure = round(radius.numel() / acceleration), max(1, round(centre))
    if centre < 0 or sure > count:
        raise InputError(
            "centre",
            sure,
            f"more is measured for certain than the {count} samples of acceleration {acceleration:g}",
            "lower one of the two",
        )
    # Efraimidis & Spirakis 2006: the largest u^(1/w) are a weighted draw without replacement.
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(radius.shape, generator=generator, dtype=torch.float64).clamp(min=1e-300)
    weight = (1 - radius).clamp(min=1e-6) ** density
    key = torch.log(u) / weight
    order = radius.flatten().argsort(stable=True)
    key.view(-1)[order[:sure]] = torch.inf
    mask = torch.zeros(radius.numel())
    mask[key.flatten().topk(count).indices] = 1
    return mask.reshape(radius.shape)
