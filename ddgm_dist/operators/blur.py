r"""Convolution with a known kernel, of a field cut out of a wider specimen.

The domain is wider than the field by the kernel's radius on each side. Over it A is a periodic
convolution cropped to the field, which values that wrap around never reach. Without the crop A is
diagonal in frequency, with the kernel's transfer function h(k). Samples that were not measured, the
crop among them, are imputed with the estimate's own, as for the slab
(:mod:`ddgm_dist.operators.slab.operator`). That majorises the error, and j gradient steps are

    x + F^H q(k) conj(h) F S (b - A x),    q = (1 - (1 - eta |h|^2)^j) / |h|^2,

so the error never rises. Where everything is measured (``boundary="periodic"``) any number of steps
are one such run, and equal to as many explicit steps. Else long runs ring: the residual ends at the
field's edge, and would be deblurred as an edge of the specimen. Runs of 25 steps leave such ringing,
runs of 5 do not. ``||A||^2 <= max_k |h(k)|^2``, with equality if all is measured.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddgm_dist.algorithm.residual import check_measured, masked_residual
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import step_factor

__all__ = ["Blur", "Boundary", "disc_kernel", "gaussian_kernel"]

Boundary = Literal["unknown", "periodic"]
_AXES = (0, 2)


class Blur:
    """Blur of every (z, x) image of a stack.

    Parameters
    ----------
    kernel
        ``(z, x)``, odd extents, its centre in the middle. It is convolved with the image, not
        correlated. A kernel that does not sum to 1 scales the image.
    field
        Shape ``(z, x)`` of the measured images.
    boundary
        ``unknown``: the specimen continues beyond the field, and images have a margin of the
        kernel's radius. ``periodic``: images wrap around.

    Notes
    -----
    Images are float32 ``(z + 2 margin_z, rows, x + 2 margin_x)``, data float32 ``(z, rows, x)``.

    Raises
    ------
    InputError
        If the kernel is even, larger than the field, not finite, or all 0.
    """

    def __init__(
        self, kernel: Tensor, field: tuple[int, int], boundary: Boundary = "unknown"
    ) -> None:
        if kernel.ndim != 2 or any(n % 2 == 0 for n in kernel.shape):
            raise InputError(
                "kernel",
                tuple(kernel.shape),
                "must be (z, x) with odd extents, so that it has a centre",
                "pad it with zeros on one side",
            )
        if any(k > n for k, n in zip(kernel.shape, field, strict=True)):
            raise InputError(
                "kernel", tuple(kernel.shape), f"is larger than the field, which is {field}"
            )
        if not bool(torch.isfinite(kernel).all()):
            raise InputError("kernel", tuple(kernel.shape), "holds NaN or infinity")
        if not bool(kernel.any()):
            raise InputError("kernel", "all 0", "nothing of the image would be seen")
        if boundary not in ("unknown", "periodic"):
            raise InputError("boundary", boundary, "is neither 'unknown' nor 'periodic'")
        radius = (kernel.shape[0] // 2, kernel.shape[1] // 2)
        self.field = field
        self.margin = radius if boundary == "unknown" else (0, 0)
        self.extent = (field[0] + 2 * self.margin[0], field[1] + 2 * self.margin[1])
        spread = torch.zeros(self.extent, dtype=torch.float64)
        spread[: kernel.shape[0], : kernel.shape[1]] = kernel
        spread = torch.roll(spread, (-radius[0], -radius[1]), (0, 1))
        transfer = torch.fft.rfft2(spread)[:, None]
        self.transfer = transfer.to(torch.complex64)
        self.gram = transfer.abs().square()

    @property
    def norm_squared(self) -> float:
        """The bound ``max |h|^2`` on ``||A||^2``."""
        return float(self.gram.max())

    def A(self, x: Tensor) -> Tensor:
        """Blurred images: float32 ``(z + 2 margin, rows, ...)`` to ``(z, rows, x)``."""
        self._check(x, self.extent, "x")
        return self.crop(_filtered(x, self.transfer))

    def T(self, y: Tensor) -> Tensor:
        """Adjoint: float32 ``(z, rows, x)`` to the domain."""
        self._check(y, self.field, "data")
        (z, x) = self.margin
        return _filtered(F.pad(y, (x, x, 0, 0, z, z)), self.transfer.conj())

    def crop(self, x: Tensor) -> Tensor:
        """Cut the field out of the domain, ``(z + 2 margin, rows, ...)`` to ``(z, rows, x)``."""
        (z, columns) = self.margin
        return x[z : z + self.field[0], :, columns : columns + self.field[1]]

    def descend(
        self,
        x: Tensor,
        data: Tensor,
        steps: float,
        step_size: float,
        *,
        measured: Tensor | None = None,
        impute_every: int = 5,
    ) -> Tensor:
        """``steps`` gradient steps in runs of closed form; a fraction is a shorter last step.

        Parameters
        ----------
        x, data
            Estimate over the domain; b over the field.
        steps, step_size
            K and eta.
        measured
            S, 1 where b was measured, ``(z, x)`` for all rows alike or broadcastable to b; all ones
            when None.
        impute_every
            Steps per run; 1 is masked descent itself.
        """
        if measured is not None and measured.ndim == 2:
            measured = measured[:, None]
        check_measured(measured, data)
        if impute_every < 1:
            raise InputError("impute_every", impute_every, "a run takes at least one step")
        whole = self.margin == (0, 0) and measured is None
        while steps > 0:
            run = steps if whole else min(float(impute_every), steps)
            x, steps = self._run(x, data, run, step_size, measured), steps - run
        return x

    def _run(
        self, x: Tensor, data: Tensor, steps: float, step_size: float, measured: Tensor | None
    ) -> Tensor:
        residual = masked_residual(data, self.A(x), measured)
        factor = step_factor(self.gram, steps, step_size).to(torch.float32)
        (z, columns) = self.margin
        padded = F.pad(residual, (columns, columns, 0, 0, z, z))
        return x + _filtered(padded, self.transfer.conj() * factor)

    def _check(self, stack: Tensor, extent: tuple[int, int], name: str) -> None:
        if stack.ndim != 3 or (stack.shape[0], stack.shape[2]) != extent:
            raise InputError(
                name,
                tuple(stack.shape),
                f"must be (z, rows, columns) = ({extent[0]}, any, {extent[1]})",
            )


def _filtered(x: Tensor, transfer: Tensor) -> Tensor:
    """Multiply by a transfer function ``(z, 1, x // 2 + 1)`` in frequency."""
    spectrum = torch.fft.rfftn(x, dim=_AXES) * transfer
    out: Tensor = torch.fft.irfftn(spectrum, s=(x.shape[0], x.shape[2]), dim=_AXES)
    return out


def gaussian_kernel(sigma: float, radius: int | None = None) -> Tensor:
    """A Gaussian of standard deviation ``sigma`` pixels that sums to one, float32 ``(n, n)``.

    Cut off at ``radius`` pixels, ``4 sigma`` when None.
    """
    if not sigma > 0:
        raise InputError("sigma", sigma, "the width of the blur must be positive")
    reach = max(1, round(4 * sigma)) if radius is None else radius
    d = torch.arange(-reach, reach + 1, dtype=torch.float64)
    profile = torch.exp(-d.square() / (2 * sigma * sigma))
    kernel = profile[:, None] * profile
    return (kernel / kernel.sum()).to(torch.float32)


def disc_kernel(radius: float) -> Tensor:
    """A disc that sums to one, the blur of a defocused aperture, float32 ``(n, n)``.

    Its edge is anti-aliased over a pixel.
    """
    if not radius > 0:
        raise InputError("radius", radius, "the width of the blur must be positive")
    reach = int(radius + 1)
    d = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = (radius + 0.5 - torch.hypot(d[:, None], d)).clamp(0, 1)
    return (kernel / kernel.sum()).to(torch.float32)
