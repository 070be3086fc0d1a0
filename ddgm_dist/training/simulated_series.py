"""Simulated tilt series of blocks of tissue, and their regularized inverses.

They are made by the operator that the reconstruction has (:mod:`ddgm_dist.operators.slab.operator`):
the projections b = A x, errors of the model, noise, and then the inverse

    x_w = argmin ||S (A x - b)||^2 / sigma_y^2 + ||x - x_0||^2 / nu^2.

Where a block shows an end of the field, it is by the reconstruction's conjugate gradients. A Cholesky
factor of each block's noise stands for the eigenbasis there: it is the same preconditioner, at less cost
for a geometry that is used once. Elsewhere blocks are periodic along x and all rays are measured.
Then the inverse is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import (
    SlabBasis,
    from_fourier,
    norm_squared,
    period,
    to_fourier,
)
from ddgm_dist.operators.slab.inverse import (
    DAMPING,
    conjugate_gradients,
    inverse_steps,
    sound_noise,
)
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.training.model_errors import ModelErrors
from ddgm_dist.training.recorded_fields import RecordedField

__all__ = ["SimulatedSeries"]


class SimulatedSeries:
    """Simulated series of some blocks of tissue.

    Parameters
    ----------
    acquisition
        Angles and thickness.
    clean
        Blocks side by side, float32 ``(z, rows of all blocks, x)``. What surrounds the specimen is drawn
        into it.
    noises
        Noise of each block, as a fraction of the standard deviation of the tissue's projections.
    rng
        Generator of everything that is random.
    errors
        Errors of the model; none when None.
    field
        The recorded field; periodic blocks when None.

    Attributes
    ----------
    noise
        Noise that the reconstruction has estimated, of each block.
    data
        The series, of all rows.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        clean: Tensor,
        noises: list[float],
        rng: np.random.Generator,
        errors: ModelErrors | None = None,
        field: RecordedField | None = None,
    ) -> None:
        self.periodic = field is None
        rows, width = clean.shape[1:]
        if field is None:
            geometry = Geometry(acquisition.angles_deg, acquisition.thickness, rows, width)
            basis = SlabBasis(geometry, width)
            self.operator = SlabOperator(geometry, (0, width), basis=basis)
            seen = torch.ones((geometry.tilts, 1, width))
        else:
            geometry = field.geometry
            basis = SlabBasis(geometry, period(geometry, width))
            self.operator = SlabOperator(
                geometry, field.columns, background=field.vacuum, basis=basis
            )
            seen = field.measured(rng, self.operator.measured_columns()[:, None])
        projections = self.operator.A_linear(clean)
        # A block's mean is no contrast.
        varied = projections - projections.mean(dim=2, keepdim=True)
        spread = self._by_block(varied.square(), len(noises)).sqrt()
        if field is not None and (field.surround(rng, clean) or field.vacuum):
            projections = self.operator.A(clean)
        sigma = torch.tensor(noises) * spread
        data, misfit = projections, torch.zeros_like(sigma)
        if errors is not None:
            data = errors.applied(projections, acquisition)
            misfit = self._by_block((data - projections).square() * seen, len(noises), seen).sqrt()
        # As the reconstruction has it: the larger of noise and misfit, known to about a tenth.
        told = torch.maximum(sigma, misfit) * float(np.exp(0.1 * rng.standard_normal()))
        self.noise = torch.tensor([sound_noise(geometry, float(t)) for t in told])
        strength = torch.ones_like(data) if errors is None else errors.strength(data, spread.mean())
        noise = torch.from_numpy(rng.standard_normal(data.shape, dtype=np.float32)) * strength
        noise = self._in_band(noise) * sigma.repeat_interleave(rows // len(noises))[:, None]
        self.data = SlabData((data + noise) * seen, seen)

    @property
    def coverage(self) -> Tensor:
        """Share of the tilts that see each voxel, ``(z, 1, x)``."""
        if self.periodic:
            geometry = self.operator.geometry
            return torch.ones((geometry.thickness, 1, geometry.field))
        return self.operator.coverage(self.data.measured)

    def inverse(
        self,
        rows: list[int] | None = None,
        around: Tensor | None = None,
        variance: float = 1.0,
    ) -> Tensor:
        """The regularized inverse.

        Parameters
        ----------
        rows
            Rows to take, as many of each block, in order; all when None.
        around, variance
            x_0, ``(z, rows, x)``, and nu^2.

        Returns
        -------
        Tensor
            Float32 ``(z, rows, x)``.
        """
        operator, geometry = self.operator, self.operator.geometry
        stretched = self.data.stretched if rows is None else self.data.stretched[:, rows]
        data = SlabData(stretched, self.data.measured)
        count = stretched.shape[1] // len(self.noise)
        taus = self.noise.square() / variance
        if self.periodic:
            solve = _Inverse(operator, taus.tolist(), torch.float64)
            start = _zeros(data, operator) if around is None else around
            return start + solve.of_data(operator.residual(start, data))
        norm = norm_squared(geometry)
        damped = [max(float(t), DAMPING * norm) for t in taus]
        return conjugate_gradients(
            operator,
            data,
            taus.repeat_interleave(count)[:, None],
            _Inverse(operator, damped, torch.float32),
            inverse_steps(geometry, float(taus.min())),
            around,
        )

    def _by_block(self, values: Tensor, blocks: int, seen: Tensor | None = None) -> Tensor:
        """Sums over tilts and columns per sample of the detector, as means of each block's rows.

        A sample of the stretched grid is cos(theta) of a sample of the detector. Samples are those that
        are seen; when None, as many of each tilt as the block has columns.
        """
        cos = torch.tensor([math.cos(a) for a in self.operator.geometry.angles])
        columns = self.operator.columns[1] - self.operator.columns[0]
        samples = columns * cos.sum() if seen is None else (seen.sum(dim=(1, 2)) * cos).sum()
        return values.sum(dim=(0, 2)).reshape(blocks, -1).mean(dim=1) / samples.clamp(min=1)

    def _in_band(self, noise: Tensor) -> Tensor:
        """White noise of the detector on the stretched grid, where it fills each tilt's band only."""
        band = self.operator.matrix.abs().amax(dim=2) > 0
        return from_fourier(to_fourier(noise) * band[..., None], noise.shape[1], noise.shape[2])


class _Inverse:
    """``(A^H A + alpha)^-1`` per frequency, for an alpha of each block, or for one alpha of all.

    Its Cholesky factors, inverted, are of the smaller one of A^H A and A A^H, for
    ``(A^H A + alpha)^-1 A^H`` is ``A^H (A A^H + alpha)^-1``.
    """

    def __init__(self, operator: SlabOperator, alphas: list[float], dtype: torch.dtype) -> None:
        self.operator, self.alphas = operator, alphas[:1] if len(set(alphas)) == 1 else alphas
        self.A = operator.matrix.to(dtype)
        self.dual = self.A.shape[1] < self.A.shape[2]
        square = self.A @ self.A.mT if self.dual else self.A.mT @ self.A
        eye = torch.eye(square.shape[-1], dtype=dtype)
        # Inverted, as products with a batch of matrices take far less time than solving with them.
        self.factors = [
            torch.linalg.solve_triangular(
                torch.linalg.cholesky(square + alpha * eye), eye.expand_as(square), upper=False
            )
            for alpha in self.alphas
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to volumes, ``(z, rows, x)``."""

        def solve(part: Tensor, factor: Tensor, alpha: float) -> Tensor:
            if self.dual:
                return (part - self.A.mT @ _solved(self.A @ part, factor)) / alpha
            return _solved(part, factor)

        spectrum = self._by_block(self.operator.to_spectrum(x), solve)
        return self.operator.from_spectrum(spectrum, x.shape[1])

    def of_data(self, y: Tensor) -> Tensor:
        """``(A^H A + alpha)^-1 A^H y`` of data, ``(tilt, rows, length)``."""

        def solve(part: Tensor, factor: Tensor, alpha: float) -> Tensor:
            if self.dual:
                return self.A.mT @ _solved(part, factor)
            return _solved(self.A.mT @ part, factor)

        return self.operator.from_spectrum(self._by_block(to_fourier(y), solve), y.shape[1])

    def _by_block(
        self, spectrum: Tensor, solve: Callable[[Tensor, Tensor, float], Tensor]
    ) -> Tensor:
        shape, blocks = spectrum.shape[:2], len(self.factors)
        parts = spectrum.to(self.A.dtype).reshape(*shape, 2, blocks, -1)
        solved = [
            solve(parts[..., b, :].flatten(2), factor, alpha).float()
            for b, (factor, alpha) in enumerate(zip(self.factors, self.alphas, strict=True))
        ]
        both = [part.reshape(*part.shape[:2], 2, -1) for part in solved]
        return torch.stack(both, dim=3).flatten(2)


def _solved(right: Tensor, factor: Tensor) -> Tensor:
    """The solution for some right-hand sides, by the inverse of a Cholesky factor."""
    return factor.mT @ (factor @ right)


def _zeros(data: SlabData, operator: SlabOperator) -> Tensor:
    width = operator.columns[1] - operator.columns[0]
    return torch.zeros((operator.geometry.thickness, data.stretched.shape[1], width))
