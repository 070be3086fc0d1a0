"""An explicit projector in space: the independent reference, and the path for any geometry.

Joseph's method (Joseph 1982, IEEE Trans. Med. Imaging 1, 192) stepping along z. Each slice of
constant z is read where the ray crosses it, ``x = (u - z sin(theta)) / cos(theta)``, with cubic
convolution (Keys 1981, a = -1/2). The weight is the path ``1 / cos(theta)`` from slice to slice. It
samples the detector's own coordinate u and uses no Fourier transform. Its adjoint is exact: it
scatters with the same indices and weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddgm_dist.algorithm.descent import explicit_descent
from ddgm_dist.core.geometry import Geometry

__all__ = ["InterpolatedOperator", "cubic_weights"]


def cubic_weights(position: Tensor) -> tuple[Tensor, Tensor]:
    """First tap and four cubic-convolution weights (Keys 1981, a = -1/2) per position.

    Returns
    -------
    first, weight
        int64 ``(...,)`` and float64 ``(..., 4)``.
    """
    base = torch.floor(position)
    d = position - base
    weight = torch.stack(
        (
            ((-0.5 * d + 1.0) * d - 0.5) * d,
            (1.5 * d - 2.5) * d * d + 1.0,
            ((-1.5 * d + 2.0) * d + 0.5) * d,
            (0.5 * d - 0.5) * d * d,
        ),
        dim=-1,
    )
    return base.to(torch.int64) - 1, weight


class InterpolatedOperator:
    """Spatial projector over columns ``[start, stop)``; see the module's docstring.

    Parameters
    ----------
    geometry
        Geometry of the tilt series.
    columns
        Global columns of the volume; the whole domain when None.
    device
        Device of the tensors.

    Notes
    -----
    Volumes are float32 ``(z, rows, columns)``, projections ``(tilt, rows, field)`` in detector
    samples u. Outside the columns the volume is zero.
    """

    def __init__(
        self,
        geometry: Geometry,
        columns: tuple[int, int] | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.geometry = geometry
        self.columns = columns or geometry.domain
        self.device = torch.device(device)
        self._taps = [self._tilt_taps(t) for t in range(geometry.tilts)]

    def _tilt_taps(self, tilt: int) -> tuple[Tensor, Tensor]:
        """Flat voxel indices ``(field, z * 4)`` and weights of one tilt."""
        g = self.geometry
        width, angle = self.columns[1] - self.columns[0], g.angles[tilt]
        centre = (g.field - 1) / 2
        u = torch.arange(g.field, dtype=torch.float64) - centre - g.shift(tilt)[1]
        z = torch.arange(g.thickness, dtype=torch.float64) - (g.thickness - 1) / 2
        x = (u[:, None] - z * math.sin(angle)) / math.cos(angle) + centre - self.columns[0]
        first, weight = cubic_weights(x)
        tap = first[..., None] + torch.arange(4)
        weight = weight * ((tap >= 0) & (tap < width)) / math.cos(angle)
        index = torch.arange(g.thickness)[:, None] * width + tap.clamp(0, width - 1)
        return (
            index.reshape(g.field, -1).to(self.device),
            weight.reshape(g.field, -1).to(self.device, torch.float32),
        )

    def A(self, x: Tensor) -> Tensor:
        """Project: float32 ``(z, rows, columns)`` to ``(tilt, rows, field)``."""
        rows = x.permute(1, 0, 2).reshape(x.shape[1], -1)
        return torch.stack([(rows[:, index] * weight).sum(-1) for index, weight in self._taps])

    def T(self, y: Tensor) -> Tensor:
        """Adjoint of :meth:`A`: float32 ``(tilt, rows, field)`` to ``(z, rows, columns)``."""
        g, width = self.geometry, self.columns[1] - self.columns[0]
        out = torch.zeros(y.shape[1], g.thickness * width, dtype=y.dtype, device=y.device)
        for projection, (index, weight) in zip(y, self._taps, strict=True):
            spread = (projection[..., None] * weight).flatten(1)
            out.index_add_(1, index.flatten(), spread)
        return out.reshape(y.shape[1], g.thickness, width).permute(1, 0, 2)

    def measured(self) -> Tensor:
        """S: 1 where a ray stays inside the columns, float32 ``(tilt, 1, field)``."""
        g = self.geometry
        rows = []
        for tilt, angle in enumerate(g.angles):
            x = (torch.arange(g.field, dtype=torch.float64) - (g.field - 1) / 2) - g.shift(tilt)[1]
            x = x / math.cos(angle) + (g.field - 1) / 2
            spread = (g.thickness - 1) / 2 * abs(math.tan(angle))
            inside = (x - spread >= self.columns[0]) & (x + spread <= self.columns[1] - 1)
            rows.append(inside | (g.boundary == "vacuum"))
        return torch.stack(rows)[:, None].to(self.device, torch.float32)

    def descend(self, x: Tensor, data: Tensor, steps: float, step_size: float) -> Tensor:
        """``steps`` explicit gradient steps on the measured rays."""
        return explicit_descent(self, x, data, steps, step_size, measured=self.measured())
