"""Inputs for the training of a restorer: regularized inverses of simulated tilt series.

All is computed per frequency along x, in the operator's real basis
(:mod:`ddgm_dist.operators.slab.basis`): the projections b = A x, errors of the model, noise, and

    x_w = (A^H S A + noise^2)^-1 A^H S b.

Where all rays are measured (S = 1, periodic along x) one Cholesky factor per noise level solves it.
At the ends of a field S is a mask in space. Then conjugate gradients with that factor as
preconditioner solve it, as the reconstruction does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import fold, from_fourier, real_matrix, to_fourier, unfold
from ddgm_dist.training.acquisitions import draw_acquisition, draw_noise
from ddgm_dist.training.blocks import BlockSampler

__all__ = ["Inputs", "TiltInputs"]

# Conjugate gradients of masked series.
_STEPS = 6
# Columns beyond a window that show the end of a field.
_BEYOND = 160
# Weight of the columns beyond the field, which are seen by some tilts only.
_UNSEEN = 0.25


@dataclass(frozen=True)
class Inputs:
    """A batch of one geometry.

    Attributes
    ----------
    images
        Regularized inverses of rows y-r .. y+r, float32 ``(batch, 2r + 1, z, x)``.
    clean
        The row in their middle, float32 ``(batch, z, x)``.
    inside
        1 within the slab, 0 in padding to a multiple of the stride; shape of ``clean``.
    weight
        Weights of the pixels in the loss; shape of ``clean``.
    noise
        Noise that the restorer is told, ``(batch,)``.
    acquisition
        The geometry.
    """

    images: Tensor
    clean: Tensor
    inside: Tensor
    weight: Tensor
    noise: Tensor
    acquisition: Acquisition


@dataclass(frozen=True)
class TiltInputs:
    """Draws batches; the same (seed, step) draws the same batch.

    Attributes
    ----------
    blocks
        Source of tissue.
    neighbours, stride
        Of the restorer: rows on each side, and what extents must be multiples of.
    columns
        Width of the images.
    pixels
        Pixels of a batch, about.
    run
        Neighbouring rows of one block that are targets: they share its rows' inverses.
    seed
        Seed.
    """

    blocks: BlockSampler
    neighbours: int = 2
    stride: int = 16
    columns: int = 224
    pixels: int = 6 * 64 * 224
    run: int = 2
    seed: int = 0

    def draw(self, step: int) -> Inputs:
        """The batch of one step: random geometry, noise, errors of the model and ends of the field."""
        rng = np.random.default_rng([self.seed, step])
        acquisition = draw_acquisition(rng)
        ends = rng.random() < 0.35
        count = self._count(acquisition.thickness)
        noises = [draw_noise(rng) for _ in range(count)]
        errors = _Errors.draw(rng, acquisition) if rng.random() < 0.4 else None
        return self.simulate(rng, acquisition, noises, errors=errors, ends=ends)

    def simulate(
        self,
        rng: np.random.Generator,
        acquisition: Acquisition,
        noises: list[float],
        *,
        errors: _Errors | None = None,
        ends: bool = False,
        augment: bool = True,
    ) -> Inputs:
        """A batch of a given geometry, a block for each noise.

        Parameters
        ----------
        rng
            Generator of everything that is random.
        acquisition
            The geometry.
        noises
            Noise of each block, as a fraction of the projections' standard deviation.
        errors
            Errors of the model; none when None.
        ends
            Show an end of the recorded field.
        augment
            Change the tissue as by another microscope.
        """
        width = self.columns + (_BEYOND if ends else 32)
        rows = self.run + 2 * self.neighbours
        shape = (rows, acquisition.thickness, width)
        drawn = [self.blocks.draw(rng, shape, augment=augment) for _ in noises]
        clean = torch.from_numpy(np.concatenate(drawn)).transpose(0, 1).contiguous()
        field = _Field.draw(rng, acquisition, width) if ends else None
        if field is not None:
            field.surround(rng, clean)
        images, told = _Series(acquisition, clean, rows).inverses(rng, noises, errors, field)
        first = int(rng.integers(width - self.columns + 1))
        return self._batch(images, clean, told, acquisition, field, first)

    def _count(self, thickness: int) -> int:
        depth = -(-thickness // self.stride) * self.stride
        return max(1, round(self.pixels / (self.run * depth * self.columns)))

    def _batch(
        self,
        images: Tensor,
        clean: Tensor,
        told: Tensor,
        acquisition: Acquisition,
        field: _Field | None,
        first: int,
    ) -> Inputs:
        """Windows of all target rows, padded to the stride."""
        rows, r = self.run + 2 * self.neighbours, self.neighbours
        blocks = images.shape[1] // rows
        part = slice(first, first + self.columns)
        depth = -(-acquisition.thickness // self.stride) * self.stride
        pad = (0, 0, 0, depth - acquisition.thickness)
        shown = torch.nn.functional.pad(images[..., part].permute(1, 0, 2), pad)
        truth = torch.nn.functional.pad(clean[..., part].permute(1, 0, 2), pad)
        middles = [b * rows + r + k for b in range(blocks) for k in range(self.run)]
        stacked = torch.stack([shown[m - r : m + r + 1] for m in middles])
        inside = torch.zeros((len(middles), depth, self.columns))
        inside[:, : acquisition.thickness] = 1
        weight = inside.clone()
        if field is not None:
            column = torch.arange(first, first + self.columns)
            weight[..., (column < field.first) | (column >= field.stop)] *= _UNSEEN
        return Inputs(
            stacked,
            truth[middles],
            inside,
            weight,
            told.repeat_interleave(self.run),
            acquisition,
        )


@dataclass(frozen=True)
class _Errors:
    """Errors of the model: what the reconstruction does not know of each tilt.

    Attributes
    ----------
    shift
        Pixels along u, by tilt.
    gain
        Factor, by tilt.
    blur
        Standard deviation of the detector's point spread, pixels.
    uneven
        Standard deviation of the noise by tilt, relative to the mean's.
    """

    shift: Tensor
    gain: Tensor
    blur: float
    uneven: Tensor

    @staticmethod
    def draw(rng: np.random.Generator, acquisition: Acquisition) -> _Errors:
        count = len(acquisition.angles_deg)
        shift, gain, blur = np.zeros(count), np.ones(count), 0.0
        if rng.random() < 0.6:
            shift = rng.standard_normal(count) * float(np.exp(rng.uniform(np.log(0.1), 0)))
            shift = shift + rng.normal(0, 0.4)
        if rng.random() < 0.4:
            gain = gain + rng.standard_normal(count) * rng.uniform(0, 0.05)
        if rng.random() < 0.4:
            blur = float(rng.uniform(0.2, 0.9))
        uneven = np.ones(count)
        if rng.random() < 0.5:  # as counts are fewer where the path is longer
            tilted = 1 / np.cos(np.radians(acquisition.angles_deg))
            uneven = tilted ** rng.uniform(0, 0.5) * np.exp(0.1 * rng.standard_normal(count))
            uneven = uneven / np.sqrt(np.mean(uneven**2))
        parts = [torch.as_tensor(v, dtype=torch.float32) for v in (shift, gain, uneven)]
        return _Errors(parts[0], parts[1], blur, parts[2])

    def applied(self, b: Tensor, acquisition: Acquisition, k: Tensor) -> Tensor:
        """Projections ``(frequency, tilt, 2 rows)`` with the errors in them."""
        cos = torch.tensor([math.cos(math.radians(a)) for a in acquisition.angles_deg])
        phase = k[:, None] * (self.shift / cos)  # a shift along u is one of s by 1 / cos
        factor = self.gain * torch.exp(-0.5 * (k[:, None] * self.blur / cos).square())
        re, im = b.chunk(2, dim=2)
        c, s = (factor * phase.cos())[..., None], (factor * phase.sin())[..., None]
        return torch.cat((re * c + im * s, im * c - re * s), dim=2)


@dataclass(frozen=True)
class _Field:
    """Ends of a recorded field among the columns of a block.

    Attributes
    ----------
    first, stop
        Columns that the field holds.
    measured
        S: 1 where a ray hits the detector and crosses nothing outside the columns, ``(tilt, columns)``.
    """

    first: int
    stop: int
    measured: Tensor

    @staticmethod
    def draw(rng: np.random.Generator, acquisition: Acquisition, width: int) -> _Field:
        tan = [math.tan(math.radians(a)) for a in acquisition.angles_deg]
        steepest = max(abs(t) for t in tan)
        reach = math.ceil(acquisition.thickness / 2 * steepest)
        # One end of the field, or the cut between two tiles: then the field goes on.
        stop = width - min(reach, width // 2) if rng.random() < 0.8 else width
        wide = float(np.exp(rng.uniform(math.log(200), math.log(4000))))
        s = torch.arange(width, dtype=torch.float64)
        rows = []
        for t, angle in zip(tan, acquisition.angles_deg, strict=True):
            spread = (acquisition.thickness - 1) / 2 * abs(t)
            hit = (s - spread >= 0) & (s + spread <= width - 1)
            centre, cos = stop - wide / 2, math.cos(math.radians(angle))
            if stop < width:
                hit &= (s - centre) * cos <= wide / 2
            rows.append(hit)
        measured = torch.stack(rows).to(torch.float32)
        first = 0
        if rng.random() < 0.5:
            measured, first, stop = measured.flip(1), width - stop, width
        return _Field(first, stop, measured)

    def surround(self, rng: np.random.Generator, clean: Tensor) -> None:
        """Sometimes replace the tissue beyond the field with a constant, in place."""
        width = clean.shape[-1]
        if (self.first, self.stop) == (0, width) or rng.random() > 0.25:
            return
        level, gap = float(rng.uniform(-3, 1)), int(rng.integers(0, 60))
        if self.first > 0:
            clean[..., : max(0, self.first - gap)] = level
        else:
            clean[..., min(width, self.stop + gap) :] = level


class _Series:
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
        errors: _Errors | None,
        field: _Field | None,
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

    def _solved(self, data: Tensor, noise: Tensor, field: _Field | None) -> Tensor:
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
