r"""Masked Fourier samples of real images: compressed-sensing MRI with one coil.

    y = S F x + noise,    F the unitary discrete Fourier transform, S 0 or 1.

For a real image only ``Re F^H S F`` counts. It is diagonal in frequency again, with
``s(k) = (S(k) + S(-k)) / 2``, for a real image's spectrum at k fixes that at -k. So K gradient steps
from x are one multiplication,

    x + Re F^H q(k) S (y - F x),    q = (1 - (1 - eta s)^K) / s,

and ``||A|| = 1``, attained at k = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddgm_dist.algorithm.residual import masked_residual
from ddgm_dist.errors import InputError
from ddgm_dist.operators.base import check_mask
from ddgm_dist.operators.slab.basis import step_factor

__all__ = ["MaskedFourier"]

_AXES = (0, 2)


class MaskedFourier:
    """Fourier samples of every (z, x) image of a stack.

    Parameters
    ----------
    mask
        S, ``(z, x)``, 1 where a frequency is measured; frequency zero at index (0, 0), as
        ``torch.fft`` has it. All rows share it.
    shape
        Shape ``(z, x)`` of the images, if known; a mask that does not fit it is refused.

    Notes
    -----
    Images are float32 ``(z, rows, columns)``, data complex64 of the same shape, 0 where not
    measured. Inner products of complex data are real parts: ``<a, b> = Re sum conj(a) b``.

    Raises
    ------
    InputError
        If the mask does not fit, is not of 0 and 1, or leaves frequency zero out.
    """

    def __init__(self, mask: Tensor, shape: tuple[int, int] | None = None) -> None:
        if mask.ndim != 2:
            raise InputError(
                "mask", tuple(mask.shape), "must be (z, x), one value per frequency of an image"
            )
        mask = check_mask(mask, shape or tuple(mask.shape), of="the image")
        if mask[0, 0] == 0:
            raise InputError(
                "mask",
                "0 at frequency zero",
                "nothing would fix the image's mean",
                "frequency zero is at index (0, 0): torch.fft.ifftshift a centred mask",
            )
        self.mask = mask[:, None, :]
        reverse = torch.roll(mask.flip(0, 1), (1, 1), (0, 1))  # S(-k)
        self.gram = ((mask + reverse) / 2)[:, None, :]

    @property
    def norm_squared(self) -> float:
        """The squared operator norm ``||A||^2``."""
        return float(self.gram.max())

    def A(self, x: Tensor) -> Tensor:
        """Masked samples ``S F x``, complex64 ``(z, rows, columns)``."""
        self._check(x, "x")
        spectrum: Tensor = torch.fft.fftn(x, dim=_AXES, norm="ortho")
        return self.mask * spectrum

    def T(self, y: Tensor) -> Tensor:
        """Adjoint ``Re F^H S y``, float32; of data it is the zero-filled image."""
        self._check(y, "data")
        return _real_image(self.mask * y)

    def descend(self, x: Tensor, data: Tensor, steps: float, step_size: float) -> Tensor:
        """``steps`` gradient steps in closed form; a fraction is a shorter last step."""
        if steps <= 0:
            return x
        residual = masked_residual(data, self.A(x), self.mask)
        if not data.is_complex():
            raise InputError(
                "data",
                data.dtype,
                "Fourier samples are complex",
                "give torch.fft.fftn(image, dim=(0, 2), norm='ortho') for images",
            )
        if bool(((self.mask == 0) & (data.abs() > 0)).any()):
            raise InputError(
                "data",
                "samples other than 0 where the mask is 0",
                "the mask says that they were not measured",
                "give the mask they were measured with, and frequency zero at index (0, 0): "
                "torch.fft.ifftshift centred samples; or leave them out: mask[:, None] * data",
            )
        factor = step_factor(self.gram.double(), steps, step_size).to(torch.float32)
        return x + _real_image(factor * residual)

    def _check(self, stack: Tensor, name: str) -> None:
        z, columns = self.mask.shape[0], self.mask.shape[2]
        if stack.ndim != 3 or (stack.shape[0], stack.shape[2]) != (z, columns):
            raise InputError(
                name,
                tuple(stack.shape),
                f"the mask is of images (z, rows, columns) = ({z}, any, {columns})",
            )


def _real_image(spectrum: Tensor) -> Tensor:
    """Real image ``Re F^H s`` of a spectrum, float32 ``(z, rows, columns)``."""
    image: Tensor = torch.fft.ifftn(spectrum, dim=_AXES, norm="ortho").real
    return image
