"""Projected memory of a worker, from shapes alone.

Every term is a list of arrays that the code holds at the same time. The rest, libraries and waste of
the allocator, is measured. `benchmarks/memory.py` compares the sum with the peak resident set of real
workers; docs/planner.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from ddgm_dist.core.units import MIB, format_bytes

__all__ = ["ACTIVATION", "CUDA_CONTEXT", "LEAST_CACHED", "MemoryModel"]

# Python, torch, tensorstore and the shipped network; what a Ray worker adds. Measured on a CPU.
LIBRARIES, RAY = 310 * MIB, 50 * MIB
# Resident memory beyond the live temporaries, measured. Blocks of 8 MiB and more are mapped, and huge
# pages round them up; smaller ones leave holes on the heap (tile/host.py).
HEAP, HEAP_SHARE = 24 * MIB, 0.15
# Decoded chunks of the tilt series in tensorstore's cache (paths/array_io.py).
CACHE = 128 * MIB
# Bytes per voxel of a denoiser call of the shipped network, by precision.
ACTIVATION = {"bfloat16": 236.0, "float32": 460.0}
# Memory that CUDA takes before the first tensor, as reported for current drivers; not measured.
CUDA_CONTEXT = 500 * MIB
# Least number of streamed tiles whose measurements a worker keeps.
LEAST_CACHED = 2
# Copies of the data of a block with masks, while they are read (tilts/rows.py).
_COPIES = 8
# Holes on the heap that such data leave when they are dropped and read again, measured.
_HOLES = 0.5
# Frequencies that are decomposed together (operators/slab/basis.py).
FREQUENCIES = 64


@dataclass(frozen=True)
class MemoryModel:
    """Memory of one worker, bytes.

    Attributes
    ----------
    thickness, tilts
        Voxels along z and number of tilts of the geometry.
    length
        Period of the Fourier transform along x, columns; about those that a tile reads.
    rows_per_call
        Rows of a block.
    window
        Columns of a denoiser window.
    tile_rows
        Rows that a tile reads.
    largest_call
        Voxels of the largest denoiser call, if that is not one of ``(z, x)`` slices.
    activation
        Bytes per voxel of a denoiser call.
    series
        Bytes of the decoded tilt series, which bounds the cache of chunks.
    calls
        Concurrent calls: 1 in this process, 2 in a Ray worker, which reads ahead.
    coupled
        True if tiles are kept between iterations.
    planes
        True if some iterations denoise in other planes, all rows of a tile at once.
    restorer_call
        Number of images, channels, height and width of a restorer call at the start of a tile; all
        0 where tiles begin with zeros.
    restorer_activation
        Bytes per voxel of an image of that call.
    masked
        Blocks of a tile whose mask S is as large as their data
        (:func:`ddgm_dist.planning.masks.masked_blocks`). That of the others is one row.
    proximal
        True if the data step is the exact one, a regularized inverse.
    """

    thickness: int
    tilts: int
    length: int
    rows_per_call: int
    window: int
    tile_rows: int
    largest_call: int = 0
    activation: float = ACTIVATION["bfloat16"]
    series: int = CACHE
    calls: int = 2
    coupled: bool = False
    planes: bool = False
    restorer_call: tuple[int, int, int, int] = (0, 0, 0, 0)
    restorer_activation: float = 64.0
    masked: int = 0
    proximal: bool = False

    @property
    def operator(self) -> int:
        """Matrices, eigenvectors and a step factor in float32, eigenvalues in float64."""
        frequencies = self.length // 2 + 1
        return frequencies * self.thickness * (4 * self.tilts + 4 * self.thickness + 12)

    @property
    def data(self) -> int:
        """Stretched measurements of one tile, and S for each block."""
        return 4 * self.tilts * self.length * (self.tile_rows + self._mask_rows(self.rows_per_call))

    @property
    def reading(self) -> int:
        """Copies of a block's data while they are repaired, moved and masked.

        They are raw, repaired, chosen by row and normalised values, as many masks, and both stretched.
        Where all is measured there are two or three, which are left out.
        """
        return _COPIES * 4 * self.tilts * self.rows_per_call * self.length if self.masked else 0

    @property
    def _blocks(self) -> int:
        """Blocks of a tile."""
        return -(-self.tile_rows // self.rows_per_call)

    def _mask_rows(self, rows: int) -> int:
        """Rows of S of all blocks of a tile, or of as many parts of so many rows."""
        masked = min(self.masked, self._blocks)
        return masked * rows + self._blocks - masked

    @property
    def state(self) -> int:
        """Estimate of one tile over all it reads."""
        return 4 * self.thickness * self.tile_rows * self.length

    @property
    def block(self) -> int:
        """Estimate of one block of rows."""
        return 4 * self.thickness * self.rows_per_call * self.length

    @property
    def decomposition(self) -> int:
        """Float64 temporaries while the operator is made: A, G, its vectors and a workspace."""
        each = 4 * self.tilts * self.thickness + 4 * self.thickness**2
        return 8 * min(FREQUENCIES, self.length // 2 + 1) * each

    @property
    def gradient(self) -> int:
        """Temporaries of the gradient phase, in space and in Fourier space.

        They are at most 4.5 times the block and 6 times its projections. First live the padded block,
        its transform and the two parts of that. Later live the folded update, its transform and a copy
        of that. A second run of steps also keeps the first estimate. The exact data step takes as much
        as the inverse of a restored start (`restore`), of the block alone.
        """
        projection = 4 * self.tilts * self.rows_per_call * self.length
        if self.proximal:
            return int(8.5 * self.block) + 7 * projection
        return int(4.5 * self.block) + 6 * projection

    @property
    def denoiser(self) -> int:
        """Activations of one denoiser call; noisy block and result, where windows are blended."""
        call = self.thickness * self.window * self.rows_per_call
        return int(self.activation * max(call, self.largest_call)) + 2 * self.block

    @property
    def _rows_around(self) -> int:
        """Rows beyond a block whose inverses a restorer takes, on both sides together."""
        return max(0, self.restorer_call[1] - 1)

    @property
    def around(self) -> int:
        """Measurements around every block of a tile, and S on both sides; until it has begun."""
        if not self._rows_around:
            return 0
        side = self._rows_around // 2
        rows = 2 * (self._blocks * side + self._mask_rows(side))
        return 4 * self.tilts * self.length * rows

    @property
    def restore(self) -> int:
        """Temporaries of a block's regularized inverse, or of the restorer's call after it.

        The inverse holds four estimates, and transforms one of them. The call holds the inverse, and
        its images as they are cut, padded and masked; with them the coverage, and two estimates of a
        repeated call. Between calls the data step of the block holds what an inverse does, besides x_w.
        """
        if not any(self.restorer_call):
            return 0
        images, channels, height, width = self.restorer_call
        rows = self.rows_per_call + self._rows_around
        volume, projection = (4 * n * rows * self.length for n in (self.thickness, self.tilts))
        inverse = int(7.5 * volume) + 7 * projection
        voxels = images * height * width
        held = volume + 2 * self.block
        step = held + int(7.5 * self.block) + 28 * self.tilts * self.rows_per_call * self.length
        call = int((self.restorer_activation + 12 * (channels + 3)) * voxels) + held
        return max(inverse, step, call)

    @property
    def output(self) -> int:
        """Copies of a tile that is written: in the data's unit, contiguous, as shard, encoded."""
        return 4 * self.state

    @property
    def phases(self) -> int:
        """Temporaries of the largest phase of a block."""
        return max(self.gradient, self.denoiser, self.decomposition, self.restore)

    def parts(self) -> dict[str, int]:
        """The terms by name, bytes."""
        return {
            "libraries": LIBRARIES + (RAY if self.calls > 1 else 0),
            "cache": min(CACHE, self.series),
            "operator": self.operator,
            "data": self.data,
            **({"reading": self.reading} if self.reading else {}),
            "state": self.state,
            "gradient": self.gradient,
            "denoiser": self.denoiser,
            **({"restore": self.restore + self.around} if self.restore else {}),
            "output": self.output,
            "heap": HEAP + int(HEAP_SHARE * self.phases),
        }

    def describe(self, worker: int, budget: int | None) -> str:
        """Memory of a worker and its parts, for people.

        Parameters
        ----------
        worker
            Bytes of one worker.
        budget
            Bytes that it may use; None if that is unknown.
        """
        parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in self.parts().items())
        of = "" if budget is None else f" of {format_bytes(budget)}"
        return f"{format_bytes(worker)}{of} ({parts})"

    def _step(self, phases: int) -> int:
        """The tile that is computed: its old and new estimate, and a block's phases.

        In another plane than ``(z, x)`` the terms of the step are as large as the tile: descended,
        noisy and denoised estimates, and the differences.
        """
        return (6 if self.planes else 2) * self.state + self.block + phases

    @property
    def uncoupled(self) -> int:
        """Bytes of a worker that keeps no tile: one is computed, while another is read or written."""
        parts = self.parts()
        read = self.data + self.around + self.reading
        aside = max(read, self.output) if self.calls > 1 else read
        working = max(self._step(self.phases + parts["heap"]), self.output) + aside
        return parts["libraries"] + parts["cache"] + self.operator + working

    def resident(self, tiles: int) -> int:
        """Bytes of a worker that keeps the data and states of this number of coupled tiles."""
        return self.uncoupled + (tiles * (self.state + self.data) if self.coupled else 0)

    @property
    def streamed(self) -> int:
        """Bytes when states stay in the store: data of a few tiles are kept, states only read.

        Data with masks are made of many pieces, which leave holes on the heap as tiles come and go.
        """
        kept = LEAST_CACHED * self.data
        holes = int(_HOLES * (kept + self.data)) if self.masked else 0
        return self.uncoupled + kept + holes + self.calls * self.state

    @property
    def total(self) -> int:
        """Least bytes that work: one tile after the other, states in the store if coupled."""
        return self.streamed if self.coupled else self.uncoupled

    def gpu(self, tiles: int = 0) -> int:
        """Bytes on a GPU: the same arrays without libraries and caches.

        Reading, writing and the decomposition happen on the host. The CUDA context is an
        assumption, and nothing of this has been measured on a GPU.

        Parameters
        ----------
        tiles
            Number of coupled tiles that are kept.
        """
        kept = (tiles or self.calls) * (self.data + (self.state if self.coupled else 0))
        step = self._step(max(self.gradient, self.denoiser, self.restore)) + self.around
        return CUDA_CONTEXT + self.operator + step + kept
