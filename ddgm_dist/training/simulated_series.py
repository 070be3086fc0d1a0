"""Simulated tilt series of blocks of tissue, and their regularized inverses.

All is computed per frequency along x, in the operator's real basis
(:mod:`ddgm_dist.operators.slab.basis`): the projections b = A x, errors of the model, noise, and

    x_w = (A^H S A + noise^2)^-1 A^H S b.

Where all rays are measured (S = 1, periodic along x) one Cholesky factor per noise level solves it.
At the ends of a field S is a mask in space. Then a few conjugate gradients with that factor as
preconditioner approximate it. The reconstruction damps its preconditioner and takes more steps
(:mod:`ddgm_dist.operators.slab.inverse`), so the two differ there at noise of 5 % and less.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import fold, from_fourier, real_matrix, to_fourier, unfold
from ddgm_dist.training.field_ends import FieldEnds
from ddgm_dist.training.model_errors import ModelErrors

__all__ = ["SimulatedSeries"]

# Conjugate gradients of masked series.
_STEPS = 6


class SimulatedSeries:
    """Simulated series of some blocks ``(z, rows, x)``, periodic along x."""

    def __init__(self, acquisition: Acquisition, clean: Tensor, rows: int) -> None:
        self.acquisition, self.rows, self.width = acquisition, rows, clean.shape[-1]
        geometry = Geometry(
            acquisition.angles_deg, acquisition.thickness, clean.shape[1], self.width
        )
        count = self.width // 2 + 1
        self.A = real_matrix(geometry, self.width, slice(0, count)).to(torch.float32)
        self.k = 2 * math.pi * torch.arange(count, dtype=torch.float32) / self.width
        self.b = self.A @ fold(to_fourier(clean))

    def inverses(
        self,
        rng: np.random.Generator,
        noises: list[float],
        errors: ModelErrors | None,
        field: FieldEnds | None,
    ) -> tuple[Tensor, Tensor]:
        """Regularized inverses ``(z, rows of all blocks, x)``, and the noise of each block."""
        lines = self.b.shape[2]
        data = self.b if errors is None else errors.applied(self.b, self.acquisition, self.k)
        in_band = (self.A.abs().amax(dim=2) > 0).float()
        # Of real samples: the transform is unitary, and a real line has half of its frequencies here.
        cos = sum(math.cos(math.radians(a)) for a in self.acquisition.angles_deg)
        twice = torch.full((len(self.k), 1, 1), 2.0)
        twice[0] = 1
        twice[-1] = 1 if self.width % 2 == 0 else 2
        half = lines // 2

        def mean_square(values: Tensor) -> Tensor:
            """By block, per sample of the detector."""
            power = (values[1:].square() * twice[1:]).sum(dim=(0, 1))
            power = (power[:half] + power[half:]).reshape(-1, self.rows).sum(dim=1)
            return power / (self.rows * self.width * cos)

        spread = mean_square(self.b).sqrt()
        sigma = torch.tensor(noises) * spread
        misfit = mean_square(data - self.b)
        told = (sigma.square() + misfit).sqrt()
        if errors is not None:  # as well as noise and misfit are known
            told = told * float(np.exp(0.1 * rng.standard_normal()))
        noise = torch.from_numpy(rng.standard_normal(self.b.shape, dtype=np.float32))
        noise = noise * (1 / twice).sqrt() * in_band[..., None]
        noise[0, :, half:] = 0
        if self.width % 2 == 0:
            noise[-1, :, half:] = 0
        by_line = sigma.repeat_interleave(self.rows).repeat(2)
        noise = noise * by_line
        if errors is not None:
            noise = noise * errors.uneven[:, None]
        return self._solved(data + noise, told, field), told

    def _solved(self, data: Tensor, noise: Tensor, field: FieldEnds | None) -> Tensor:
        alpha = noise.square().repeat_interleave(self.rows).repeat(2)
        solve = _Closed(self.A, noise.square(), self.rows)
        lines = data.shape[2] // 2
        if field is None:
            found = solve(self.A.mT @ data)
        else:
            measured = field.measured[:, None]

            def masked(y: Tensor) -> Tensor:
                return to_fourier(measured * from_fourier(y, lines, self.width))

            def normal(x: Tensor) -> Tensor:
                return self.A.mT @ masked(self.A @ x) + alpha * x

            found = _conjugate_gradients(normal, solve, self.A.mT @ masked(data), lines)
        return from_fourier(unfold(found), lines, self.width)


class _Closed:
    """``(A^H A + alpha)^-1`` for an alpha of each block."""

    def __init__(self, A: Tensor, alphas: Tensor, rows: int) -> None:
        normal = (A.mT @ A).double()
        eye = torch.eye(A.shape[2], dtype=torch.float64)
        self._factors = [torch.linalg.cholesky(normal + float(a) * eye) for a in alphas]
        self._rows = rows

    def __call__(self, x: Tensor) -> Tensor:
        half, out = x.shape[2] // 2, torch.empty_like(x)
        for block, factor in enumerate(self._factors):
            part = slice(block * self._rows, (block + 1) * self._rows)
            both = torch.cat((x[..., :half][..., part], x[..., half:][..., part]), dim=2)
            solved = torch.cholesky_solve(both.double(), factor).float()
            out[..., :half][..., part], out[..., half:][..., part] = solved.chunk(2, dim=2)
        return out


def _conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    target: Tensor,
    lines: int,
) -> Tensor:
    """A fixed number of steps from zero; each line is a system of its own."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        found = (a * b).sum(dim=(0, 1))
        return (found[:lines] + found[lines:]).repeat(2)

    x, residual = torch.zeros_like(target), target
    direction = z = precondition(residual)
    gamma = dot(residual, z)
    for step in range(_STEPS):
        image = apply(direction)
        length = gamma / dot(direction, image).clamp(min=1e-30)
        x = x + length * direction
        if step == _STEPS - 1:
            break
        residual = residual - length * image
        z = precondition(residual)
        following = dot(residual, z)
        direction = z + following / gamma.clamp(min=1e-30) * direction
        gamma = following
    return x
