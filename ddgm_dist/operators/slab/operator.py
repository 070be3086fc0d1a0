r"""The spectral slab operator: K gradient steps as one small dense product per frequency.

In the stretched coordinate ``s = u / cos(theta)`` (:mod:`ddgm_dist.operators.slab.stretch`) tilt t of
the slab ``f(z, x)`` is a pure shear, ``b_t(s) = 1/cos * sum_z f(z, s - z tan)``. Along x the operator is
therefore diagonal in frequency: at each k a dense matrix over (tilt, z),

    A_k[t, z] = sqrt(cos theta_t) * exp(-i k z tan theta_t) / cos theta_t     for |k| <= pi cos theta_t,

zero above that band, for the detector holds nothing there. Measure z from the slab's centre. Then
the unitary basis ``(e_z + e_-z)/sqrt2, i (e_z - e_-z)/sqrt2`` turns ``exp(-i k z tan)`` into real
columns ``sqrt2 cos(k z tan), sqrt2 sin(k z tan)``. So everything below is real arithmetic on real
and imaginary parts.

K steps from x on ``1/2 ||S (A x - b)||^2``: unmeasured samples (S = 0) are imputed with the current
estimate's own projection, afresh every `IMPUTED_EVERY` steps. That majorises the masked error, touches
it at x, and is quadratic with the unmasked ``G = A^H A``; K steps on it are, with ``r = S (b - A x)``,

    x + Q A^H r,    Q = (I - (I - eta G)^K) G^+    (K eta on the null space),

so the masked error never rises. Imputed at every step this is masked descent. Imputed once for many
steps it is slower, for the imputed rays hold the ends of the field at the first estimate. (A specimen
in vacuum is then set back to vacuum outside its columns, a projection that the steps do not see.) G
is eigendecomposed once per frequency in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.algorithm.schedule import IMPUTED_EVERY
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import (
    SlabBasis,
    fold,
    from_fourier,
    period,
    period_margin,
    to_fourier,
    unfold,
)
from ddgm_dist.operators.slab.stretch import (
    DetectorPart,
    stretch,
    stretched_positions,
    stretching_part,
)

__all__ = ["SlabData", "SlabOperator"]


@dataclass(frozen=True)
class SlabData:
    """Stretched measurements of one block of rows.

    Attributes
    ----------
    stretched
        ``C b``, float32 ``(tilt, rows, length)``.
    measured
        S, float32, broadcastable to ``stretched``.
    """

    stretched: Tensor
    measured: Tensor


class SlabOperator:
    """Forward, adjoint and closed-form descent over columns ``[start, stop)`` of a slab.

    Parameters
    ----------
    geometry
        Geometry of the tilt series.
    columns
        Global columns solved for; the whole domain when None. Columns of the field are
        ``[0, field)``.
    background
        Value of the volume outside the columns, if the specimen lies in vacuum.
    basis
        Shared matrices of a period that holds the columns; made when None.
    device
        Device of the tensors, when no basis is given.

    Notes
    -----
    Volumes are float32 ``(z, rows, columns)`` in voxels. Projections are float32
    ``(tilt, rows, length)`` on the stretched grid, whose column j is global column ``start + j``.
    ``length`` is the period of the Fourier transform, at least the number of columns. For a specimen
    in vacuum it leaves room for the reach on both sides, and the grid starts ``margin`` columns
    earlier.
    """

    def __init__(
        self,
        geometry: Geometry,
        columns: tuple[int, int] | None = None,
        *,
        background: float = 0.0,
        basis: SlabBasis | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.geometry = geometry
        self.columns = columns or geometry.domain
        self.background = background
        width = self.columns[1] - self.columns[0]
        if width < 1:
            raise InputError("columns", self.columns, "must hold at least one column")
        self.margin = period_margin(geometry)
        needed = period(geometry, width)
        self.basis = basis or SlabBasis(geometry, needed, device)
        if self.basis.length < needed:
            raise InputError(
                "basis",
                f"{self.basis.length} columns",
                f"its period is shorter than the {needed} columns needed",
            )
        self.length = self.basis.length
        self.device = self.basis.device
        self.matrix = self.basis.matrix

    @property
    def grid_start(self) -> int:
        """Global column of the first stretched sample."""
        return self.columns[0] - self.margin

    def A(self, x: Tensor) -> Tensor:
        """Project: float32 ``(z, rows, columns)`` to ``(tilt, rows, length)``.

        Outside the columns the volume is ``background``; if that is not 0, the map is affine.
        """
        return from_fourier(
            self.matrix @ self.to_spectrum(x, self.background), x.shape[1], self.length
        )

    def A_linear(self, p: Tensor) -> Tensor:
        """Linear part of :meth:`A`, for a difference ``p`` of volumes: zero outside the columns."""
        return from_fourier(self.matrix @ self.to_spectrum(p), p.shape[1], self.length)

    def T(self, y: Tensor) -> Tensor:
        """Adjoint of the linear part: ``(tilt, rows, length)`` to ``(z, rows, columns)``."""
        return self.from_spectrum(self.matrix.mT @ to_fourier(y), y.shape[1])

    @property
    def detector_part(self) -> DetectorPart:
        """The detector columns that :meth:`prepare` reads of each tilt."""
        return stretching_part(self.geometry, self.grid_start, self.grid_start + self.length)

    def prepare(
        self,
        projections: Tensor,
        valid: Tensor | None = None,
        part: DetectorPart | None = None,
    ) -> SlabData:
        """Stretch measured rows onto this operator's grid, and mark which samples are measured.

        Parameters
        ----------
        projections
            Float32 ``(tilt, rows, columns)``; already shifted by dy, and without NaN.
        valid
            1 where a detector sample is valid, shape of ``projections``; all when None. A
            stretched sample counts as measured when both its neighbours on the detector do.
        part
            Detector columns of the projections; the whole detector when None. A part that
            holds :attr:`detector_part` gives the same bits as the whole.
        """
        g = self.geometry
        stop = self.grid_start + self.length
        part = part or DetectorPart((0,) * g.tilts, g.field)
        if projections.shape[-1] != part.width:
            raise ValueError(f"projections have {projections.shape[-1]} columns, not {part.width}")
        stretched = torch.stack(
            [
                stretch(
                    projections[t],
                    angle,
                    g.shift(t)[1],
                    self.grid_start,
                    stop,
                    first=part.first[t],
                    field=g.field,
                )
                for t, angle in enumerate(g.angles)
            ]
        )
        measured = self.measured_columns()[:, None]
        if valid is not None:
            measured = measured * torch.stack(
                [self._valid_columns(valid[t], t, part.first[t]) for t in range(g.tilts)]
            )
        return SlabData(stretched * (measured > 0), measured)

    def measured_columns(self) -> Tensor:
        """S where all detector samples are valid, float32 ``(tilt, length)``."""
        return torch.stack([self._measured_columns(t) for t in range(self.geometry.tilts)])

    def _measured_columns(self, tilt: int) -> Tensor:
        """S of one tilt: the ray hits the detector and crosses nothing unknown."""
        g = self.geometry
        angle = g.angles[tilt]
        stop = self.grid_start + self.length
        u = stretched_positions(angle, g.shift(tilt)[1], self.grid_start, stop, g.field)
        hit = (u >= 0) & (u <= g.field - 1)
        spread = (g.thickness - 1) / 2 * abs(math.tan(angle))
        s = torch.arange(self.grid_start, stop, dtype=torch.float64)
        # Vacuum beyond the domain is known; the specimen beyond a cut is not.
        first, last = g.domain
        if g.boundary == "extended" or self.columns[0] > first:
            hit &= s - spread >= self.columns[0]
        if g.boundary == "extended" or self.columns[1] < last:
            hit &= s + spread <= self.columns[1] - 1
        return hit.to(self.device, torch.float32)

    def _valid_columns(self, valid: Tensor, tilt: int, begin: int) -> Tensor:
        """1 where both neighbours are valid, float32; ``valid`` begins at detector column ``begin``."""
        g = self.geometry
        stop = self.grid_start + self.length
        u = stretched_positions(
            g.angles[tilt], g.shift(tilt)[1], self.grid_start, stop, g.field
        ).clamp(0, g.field - 1)
        u = u.to(valid.device)
        below, above = u.floor().long() - begin, u.ceil().long() - begin
        return torch.minimum(valid[:, below], valid[:, above]).to(torch.float32)

    def residual(self, x: Tensor, data: SlabData) -> Tensor:
        """Masked residual ``S (C b - A x)``, float32 ``(tilt, rows, length)``."""
        return data.measured * (data.stretched - self.A(x))

    def descend(
        self, x: Tensor, data: SlabData, steps: float, step_size: float
    ) -> tuple[Tensor, Tensor]:
        """``steps`` gradient steps in closed form; see the module's docstring.

        Returns
        -------
        x, error
            The new estimate, and the squared residual ``||S (b - A x)||^2`` of the old one, a
            scalar.
        """
        rows = x.shape[1]
        data.measured.expand_as(data.stretched)  # raises if it does not broadcast
        residual = self.residual(x, data)
        error = residual.square().sum()
        while steps > 0:
            run = min(steps, IMPUTED_EVERY)
            x = x + self.from_spectrum(self._update(residual, run, step_size), rows)
            del residual  # as large as the tilt series
            steps -= run
            if steps > 0:
                residual = self.residual(x, data)
        return x, error

    def _update(self, residual: Tensor, steps: float, step_size: float) -> Tensor:
        """``Q A^H r`` in Fourier space."""
        # Reusing one name frees each volume-sized array as soon as the next product is made.
        update = self.matrix.mT @ to_fourier(residual)
        vectors, factor = self.basis.vectors, self.basis.step_factor(steps, step_size)
        update = vectors.mT @ update
        return vectors @ update.mul_(factor[:, :, None])

    def to_modes(self, p: Tensor) -> Tensor:
        """Coefficients of a difference of volumes in the eigenbasis of G, zero outside the columns.

        Float32 ``(z, rows, columns)`` to ``(frequency, z, 2 rows)``: real parts, then imaginary. The
        basis is orthonormal; the eigenvalues are :attr:`SlabBasis.values`.
        """
        return self.basis.vectors.mT @ self.to_spectrum(p)

    def data_to_modes(self, y: Tensor) -> Tensor:
        """Coefficients of ``A^T y`` over the whole period, where :meth:`T` would crop.

        Float32 ``(tilt, rows, length)`` to ``(frequency, z, 2 rows)``.
        """
        return self.basis.vectors.mT @ (self.matrix.mT @ to_fourier(y))

    def from_modes(self, coefficients: Tensor) -> Tensor:
        """Inverse (and adjoint) of :meth:`to_modes`; cropped to the columns."""
        return self.from_spectrum(self.basis.vectors @ coefficients, coefficients.shape[-1] // 2)

    def to_spectrum(self, x: Tensor, outside: float = 0.0) -> Tensor:
        """A volume's even and odd parts in z, per frequency; ``outside`` beyond the columns.

        Float32 ``(z, rows, columns)`` to ``(frequency, z, 2 rows)``: real parts, then imaginary.
        """
        pad = (self.margin, self.length - x.shape[-1] - self.margin)
        padded = torch.nn.functional.pad(x, pad, value=outside)
        return fold(to_fourier(padded))

    def from_spectrum(self, folded: Tensor, rows: int) -> Tensor:
        """Inverse (and adjoint) of :meth:`to_spectrum`; cropped to the columns."""
        spectrum = unfold(folded)
        del folded  # as large as the volume
        full = from_fourier(spectrum, rows, self.length)
        return full[..., self.margin : self.margin + self.columns[1] - self.columns[0]]

    def coverage(self, measured: Tensor) -> Tensor:
        """The share of the tilts whose rays through a voxel are measured.

        Each ray counts as in the adjoint: S is projected back, relative to what 1 everywhere gives.

        Parameters
        ----------
        measured
            S, float32 ``(tilt, rows, length)``; one row if all are alike.

        Returns
        -------
        Tensor
            Float32 ``(z, rows, columns)``, 0 to 1.
        """
        full = sum(1 / math.sqrt(math.cos(angle)) for angle in self.geometry.angles)
        return (self.T(measured) / full).clamp_(0, 1)
