"""Projected memory of a worker, from shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MemoryModel"]

MIB = 2**20


@dataclass(frozen=True)
class MemoryModel:
    """What one worker holds while it solves a tile.

    Attributes
    ----------
    thickness, tilts
        Of the geometry.
    length
        Period of the Fourier transform along x, columns.
    rows_per_call
        Rows of a block.
    window
        Columns of a denoiser window.
    resident_rows
        Rows whose state is kept: one block when tiles run to completion, the tile's when coupled.
    """

    thickness: int
    tilts: int
    length: int
    rows_per_call: int
    window: int
    resident_rows: int

    # Python, torch and the network, measured on CPU; libraries dominate.
    BASE = 450 * MIB
    # Bytes of activations per voxel of a denoiser call: some seven live tensors of 32 bfloat16
    # channels at full resolution, and the workspace of the convolutions.
    ACTIVATION = 640

    @property
    def operator(self) -> int:
        """Matrices, eigenvectors and one step factor, kept; all float32 but the eigenvalues."""
        frequencies = self.length // 2 + 1
        per = 4 * self.tilts * self.thickness + 4 * self.thickness**2 + 12 * self.thickness
        # While it is built, the float64 matrices and results of the decomposition exist too.
        return frequencies * (per + 8 * self.tilts * self.thickness)

    @property
    def block(self) -> int:
        """Temporaries of one gradient phase: volume and projections, in space and in Fourier."""
        samples = (3 * self.thickness + 4 * self.tilts) * self.length * self.rows_per_call
        return 2 * 4 * samples

    @property
    def denoiser(self) -> int:
        """Activations of one denoiser call."""
        return self.ACTIVATION * self.thickness * self.window * self.rows_per_call

    @property
    def state(self) -> int:
        """Estimate, data and mask of the resident rows."""
        return 4 * (2 * self.thickness + 2 * self.tilts) * self.length * self.resident_rows

    @property
    def total(self) -> int:
        """Bytes: the phases of a block take turns, everything else is there at once."""
        return self.BASE + self.operator + self.state + max(self.block, self.denoiser)
