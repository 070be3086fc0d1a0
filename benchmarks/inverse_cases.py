"""The problems of benchmarks/inverse_problems.py: simulated data, and operators for each method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import griddata
from torch import Tensor

from ddgm_dist.algorithm.likelihood import GaussianLikelihood, PoissonLikelihood
from ddgm_dist.algorithm.nonlinear import Linear, nonlinear_descent
from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.blur import Blur, disc_kernel, gaussian_kernel
from ddgm_dist.operators.fourier import MaskedFourier
from ddgm_dist.operators.fourier_masks import cartesian_mask, variable_density_mask
from ddgm_dist.operators.inpainting import Inpainting
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.interpolated import InterpolatedOperator
from ddgm_dist.operators.transmission import Transmission, log_linearise
from ddgm_dist.pixels.noise_estimate import estimate_noise
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.simulation.projector import Projector

# Of the training volume: the scale of the same instrument's images.
GREY_MEAN, GREY_STD = 129.0, 34.4
# Grey level that is taken not to absorb at all, and line integral of the mean slab at zero tilt.
UNSTAINED, INTEGRAL = 221.0, 1.5


@dataclass(frozen=True)
class Case:
    """One data set as one method's data term sees it.

    Attributes
    ----------
    condition, data_term
        Names.
    truth
        In the prior's unit, ``(z, rows, x)``; what ``crop`` makes of an estimate is compared with it.
    extent
        ``(z, rows, x)`` that is solved for.
    descend, step_size, sigma_y
        ``(x, K) -> x``; eta; the noise in the unit of the data term.
    gradient, lipschitz
        Of the data term, for total variation.
    crop
        From what is solved for to the truth's field.
    direct
        Reconstructions without iteration, by name.
    weights, iterations
        Of total variation: the weights tried, in units of ``lipschitz``.
    shown
        What the figure shows as the data, ``(z, x)``.
    """

    condition: str
    data_term: str
    truth: Tensor
    extent: tuple[int, int, int]
    descend: Callable[[Tensor, float], Tensor]
    step_size: float
    sigma_y: float
    gradient: Callable[[Tensor], Tensor]
    lipschitz: float
    shown: Tensor
    crop: Callable[[Tensor], Tensor] = lambda x: x
    direct: dict[str, Tensor] = field(default_factory=dict)
    weights: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    iterations: int = 200


def tissue(data: Path, count: int, size: int) -> Tensor:
    """FIB-SEM images that the denoiser was not trained on, ``(z, rows, x)`` in the prior's unit."""
    volume = open_volume(data / "fibsem_medulla" / "val").read(
        Box((0, 40, 40), (250, 40 + size, 40 + size))
    )
    slices = volume[np.linspace(40, 200, count).astype(int)]
    return (torch.from_numpy(slices.transpose(1, 0, 2).copy()).float() - GREY_MEAN) / GREY_STD


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mri(data: Path, quick: bool) -> Iterator[Case]:
    t1 = torch.from_numpy(np.load(data / "mri" / "t1_coronal_slice.npy")).float()[:, None]
    size = 64 if quick else 256
    t1 = t1[128 - size // 2 : 128 + size // 2, :, 128 - size // 2 : 128 + size // 2]
    images = {"T1 slice": t1, "tissue": tissue(data, 1 if quick else 2, 64 if quick else 160)}
    plans = [("lines", 4, 0.05), ("points", 6, 0.05), ("points", 6, 0.3)]
    for image_name, grey in images.items():
        image = (grey - grey.mean()) / grey.std()
        for mask_name, acceleration, noise in plans[: 1 if quick else 3]:
            yield _mri(image_name, image, mask_name, acceleration, noise)


def _mri(image_name: str, image: Tensor, mask_name: str, acceleration: int, noise: float) -> Case:
    shape = (image.shape[0], image.shape[2])
    draw = {"lines": cartesian_mask, "points": variable_density_mask}[mask_name]
    fourier = MaskedFourier(draw(shape, acceleration, seed=1), shape)
    noise_of = torch.complex(normal(image.shape, 2), normal(image.shape, 3))
    kspace = fourier.mask * (fourier.A(image) + noise * noise_of)
    # The data tell the scale: the mean is sample zero, and nearly all variance is measured.
    zero_filled = fourier.T(kspace)
    mean, std = zero_filled.mean(), zero_filled.std()
    truth = (image - mean) / std
    kspace = fourier.A((zero_filled * 0 + 1) * -mean / std) + kspace / std
    return Case(
        f"{image_name}, {mask_name} x{acceleration}, noise {noise:.0%}",
        "masked Fourier",
        truth,
        tuple(image.shape),
        lambda x, K: fourier.descend(x, kspace, K, 1.0),
        1.0,
        noise / float(std),
        lambda x: fourier.T(fourier.A(x) - kspace),
        1.0,
        torch.fft.fftshift(fourier.mask[:, 0]),
        direct={"zero-filled": fourier.T(kspace)},
    )


def deblurring(data: Path, quick: bool) -> Iterator[Case]:
    size, count = (64, 1) if quick else (96, 2)
    kernels = {
        "Gaussian, 2 px": gaussian_kernel(2.0),
        "disc, radius 4 px": disc_kernel(4.0),
    }
    for noise in (0.05, 0.3):
        for name, kernel in kernels.items():
            if quick and (noise, name) != (0.05, "Gaussian, 2 px"):
                continue
            blur = Blur(kernel, (size, size))
            wide = tissue(data, count, size + 2 * blur.margin[0])
            b = blur.A(wide) + noise * normal((size, count, size), 4)
            truth, eta = blur.crop(wide), 1 / blur.norm_squared
            yield Case(
                f"{name}, noise {noise:.0%}",
                "blur",
                truth,
                tuple(wide.shape),
                lambda x, K, blur=blur, b=b, eta=eta: blur.descend(x, b, K, eta),
                eta,
                noise,
                lambda x, blur=blur, b=b: blur.T(blur.A(x) - b),
                blur.norm_squared,
                b[:, 0],
                blur.crop,
                {"the data": b},
            )


def inpainting(data: Path, quick: bool) -> Iterator[Case]:
    size, count = (64, 1) if quick else (160, 2)
    truth = tissue(data, count, size)
    random = torch.rand(size, size, generator=torch.Generator().manual_seed(5)) < 0.2
    lines = torch.zeros(size, size, dtype=torch.bool)
    lines[1::4] = True
    plans = [("80% of pixels missing", random, 0.05), ("3 of 4 lines missing", lines, 0.05)]
    plans += [("80% of pixels missing", random, 0.5)]
    for name, mask, noise in plans[: 1 if quick else 3]:
        paint = Inpainting(mask, (size, size))
        b = paint.A(truth + noise * normal(tuple(truth.shape), 6))
        yield Case(
            f"{name}, noise {noise:.0%}",
            "inpainting",
            truth,
            tuple(truth.shape),
            lambda x, K, paint=paint, b=b: paint.descend(x, b, K, 0.5),
            0.5,
            noise,
            lambda x, paint=paint, b=b: paint.A(x) - b,
            1.0,
            torch.where(mask, b[:, 0], torch.nan),
            direct={"linear interpolation": interpolated(b, mask)},
        )


def interpolated(b: Tensor, mask: Tensor) -> Tensor:
    """Linear over Delaunay triangles, nearest outside of their hull."""
    known, every = mask.nonzero().numpy(), np.indices(tuple(mask.shape)).reshape(2, -1).T
    out = torch.empty_like(b)
    for row in range(b.shape[1]):
        values = b[:, row][mask].numpy()
        filled = griddata(known, values, every, "linear")
        nearest = griddata(known, values, every, "nearest")
        filled = np.where(np.isnan(filled), nearest, filled).reshape(tuple(mask.shape))
        out[:, row] = torch.from_numpy(filled).float()
    return out


def transmission(data: Path, quick: bool) -> Iterator[Case]:
    thickness, rows, columns = (32, 1, 96) if quick else (64, 1, 200)
    tilts = np.linspace(-60, 60, 21 if quick else 41)
    geometry = Geometry(tuple(tilts.tolist()), thickness, rows, columns)
    whole = open_volume(data / "fibsem_medulla" / "val").read(
        Box((93, 121, 0), (93 + thickness, 121 + rows, 250))
    )
    # Tissue goes on beyond what is recorded: mirrored until no ray leaves it sideways.
    pad = max(0, math.ceil((columns / math.cos(math.pi / 3) + thickness * 1.74 + 4 - 250) / 2))
    slab = np.pad(whole, ((0, 0), (0, 0), (pad, pad)), mode="symmetric")
    unit = INTEGRAL / thickness / (UNSTAINED - GREY_MEAN)  # attenuation per grey level
    project = Projector(thickness, slab.shape[2], tilts.tolist(), n_u=columns)
    attenuation = (unit * (UNSTAINED - slab)).astype(np.float32)
    integrals = torch.from_numpy(project.project(attenuation, slice(0, rows), rows))
    reach = math.ceil(thickness / 2 * math.tan(math.pi / 3))  # beyond it not all rays are measured
    first = (slab.shape[2] - columns) // 2
    grey = torch.from_numpy(slab[:, :, first + reach : first + columns - reach].copy()).float()
    truth = (grey - GREY_MEAN) / GREY_STD
    for blank in (100.0,) if quick else (10.0, 100.0, 1000.0):
        yield from _transmission(blank, truth, integrals, geometry, -unit * GREY_STD, reach)


def _transmission(
    blank: float, truth: Tensor, integrals: Tensor, geometry: Geometry, scale: float, reach: int
) -> Iterator[Case]:
    projector = InterpolatedOperator(geometry)
    background = INTEGRAL / torch.cos(torch.tensor(geometry.angles))[:, None, None]
    operator = Transmission(projector, blank, background=background, scale=scale)
    generator = torch.Generator().manual_seed(7)
    counts = torch.poisson(blank * torch.exp(-integrals), generator=generator)
    norm = norm_squared(geometry)
    first, stop = reach - projector.columns[0], geometry.field - reach - projector.columns[0]
    extent = (geometry.thickness, geometry.rows, projector.columns[1] - projector.columns[0])

    logs, sigma = log_linearise(counts, blank)
    logs, sigma = (logs - background) / scale, sigma / abs(scale)
    line = Linear(projector.A, projector.T)
    even = estimate_noise(logs)
    terms = {
        "log": (line, GaussianLikelihood(logs, even), even**2 / norm),
        "weighted log": (
            line,
            GaussianLikelihood(logs, sigma),
            float(sigma.square().mean(dim=(1, 2)).min()) / norm,
        ),
        "Poisson": (operator, PoissonLikelihood(counts), operator.step_size(counts, norm)),
    }
    for name, (forward, likelihood, eta) in terms.items():

        def descend(x, K, forward=forward, likelihood=likelihood, eta=eta):
            return nonlinear_descent(forward, likelihood, x, K, eta)

        def gradient(x, forward=forward, likelihood=likelihood):
            prediction, pull = forward.vjp(x)
            return pull(likelihood.slope(prediction))

        yield Case(
            f"I0 = {blank:g}",
            name,
            truth,
            extent,
            descend,
            eta,
            1.0,
            gradient,
            1 / eta,
            counts[:, 0],
            lambda x: x[:, :, first:stop],
            weights=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
            iterations=100,
        )


PROBLEMS = {
    "mri": mri,
    "deblurring": deblurring,
    "inpainting": inpainting,
    "transmission": transmission,
}
