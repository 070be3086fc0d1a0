"""Projected memory of a worker, from shapes alone.

Every term is a list of arrays that the code holds at the same time; what is not an array (libraries, and
the room that the allocator wastes) is measured. `benchmarks/memory.py` compares the sum with the peak
resident set of real workers: docs/planner.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from ddgm_dist.core.units import MIB

__all__ = ["ACTIVATION", "CUDA_CONTEXT", "LEAST_CACHED", "MemoryModel"]

# Python, torch, tensorstore, the shipped network; and what a Ray worker adds. Measured on CPU.
LIBRARIES = 310 * MIB
RAY = 50 * MIB
# What is resident beyond the temporaries that are live: blocks of 8 MiB and more are mapped (and huge
# pages round them up), smaller ones leave holes on the heap (engine/host.py). Measured.
HEAP, HEAP_SHARE = 24 * MIB, 0.15
# Decoded chunks of the tilt series that tensorstore keeps (storage/array_io.py).
CACHE = 128 * MIB
# Bytes per voxel of a denoiser call of the shipped network, by precision.
ACTIVATION = {"bfloat16": 236.0, "float32": 460.0}
# What CUDA takes of a GPU before the first tensor, as reported for current drivers; not measured.
CUDA_CONTEXT = 500 * MIB
# Streamed tiles whose measurements a worker keeps at least.
LEAST_CACHED = 2
# Frequencies that are decomposed together (operators/slab_basis.py).
FREQUENCIES = 64


@dataclass(frozen=True)
class MemoryModel:
    """What one worker holds.

    Attributes
    ----------
    thickness, tilts
        Of the geometry.
    length
        Period of the Fourier transform along x, columns; about what a tile reads.
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
        Bytes of the decoded tilt series: what the cache of chunks can grow to.
    calls
        Calls at a time: 1 in this process, 2 in a Ray worker, which reads ahead.
    coupled
        Whether tiles are put aside between iterations.
    planes
        Whether some iterations denoise in other planes, all rows of a tile at once.
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

    # -- always there ---------------------------------------------------------------------------

    @property
    def libraries(self) -> int:
        """Code and what it keeps of its own."""
        return LIBRARIES + (RAY if self.calls > 1 else 0)

    @property
    def cache(self) -> int:
        """Decoded chunks of the tilt series."""
        return min(CACHE, self.series)

    @property
    def operator(self) -> int:
        """Matrices, eigenvectors and eigenvalues, float32 but for the last, and a step factor."""
        frequencies = self.length // 2 + 1
        return frequencies * self.thickness * (4 * self.tilts + 4 * self.thickness + 12)

    @property
    def data(self) -> int:
        """One tile's stretched measurements, and S for each block."""
        blocks = -(-self.tile_rows // self.rows_per_call)
        return 4 * self.tilts * self.length * (self.tile_rows + blocks)

    @property
    def state(self) -> int:
        """One tile's estimate over all it reads."""
        return 4 * self.thickness * self.tile_rows * self.length

    # -- in turns -------------------------------------------------------------------------------

    @property
    def block(self) -> int:
        """One block of the estimate."""
        return 4 * self.thickness * self.rows_per_call * self.length

    @property
    def decomposition(self) -> int:
        """Float64 temporaries while the operator is made: A, G, its vectors and a workspace."""
        each = 4 * self.tilts * self.thickness + 4 * self.thickness**2
        return 8 * min(FREQUENCIES, self.length // 2 + 1) * each

    @property
    def gradient(self) -> int:
        """Temporaries of the gradient phase: the block and its projection, there and in Fourier.

        At most 4.5 of a volume's block (padded, its transform, the two parts of that; later the
        folded update, its transform, the transform's copy; the first estimate, while a second run of
        steps goes on from a later one) and six of the projections'.
        """
        projection = 4 * self.tilts * self.rows_per_call * self.length
        return int(4.5 * self.block) + 6 * projection

    @property
    def denoiser(self) -> int:
        """Activations of one denoiser call; noisy block and result, where windows are blended."""
        call = self.thickness * self.window * self.rows_per_call
        return int(self.activation * max(call, self.largest_call)) + 2 * self.block

    @property
    def output(self) -> int:
        """Copies of a tile that is written: in the data's unit, contiguous, as shard, encoded."""
        return 4 * self.state

    # -- sums -----------------------------------------------------------------------------------

    @property
    def fixed(self) -> int:
        """What does not depend on tiles: libraries, caches, operator."""
        return self.libraries + self.cache + self.operator

    @property
    def step(self) -> int:
        """Of the tile that is computed: blended estimate, the new one, and a block's phases.

        In another plane than ``(z, x)`` the terms of the step are as large as the tile: descended,
        noisy, denoised, and its differences.
        """
        states = 6 if self.planes else 2
        return states * self.state + self.block + self.phases + self.heap

    @property
    def phases(self) -> int:
        """Temporaries of the largest phase of a block."""
        return max(self.gradient, self.denoiser, self.decomposition)

    @property
    def heap(self) -> int:
        """Room that is taken beyond the temporaries that are live."""
        return HEAP + int(HEAP_SHARE * self.phases)

    @property
    def working(self) -> int:
        """The tile that is computed, while another one is read or written."""
        aside = max(self.data, self.output) if self.calls > 1 else self.data
        return max(self.step, self.output) + aside

    def resident(self, tiles: int) -> int:
        """Bytes when the worker keeps so many tiles: their data, states and pieces for them."""
        kept = self.state + self.data if self.coupled else 0
        return self.fixed + self.working + tiles * kept

    @property
    def streamed(self) -> int:
        """Bytes when states stay in the store: data of a few tiles are kept, states only read."""
        return self.fixed + self.working + LEAST_CACHED * self.data + self.calls * self.state

    @property
    def total(self) -> int:
        """The least that works: one tile after the other, states in the store if coupled."""
        return self.streamed if self.coupled else self.fixed + self.working

    def gpu(self, tiles: int = 0) -> int:
        """Bytes on a GPU: the same arrays without libraries and caches.

        Reading, writing and the decomposition happen on the host. The CUDA context is an
        assumption, and nothing of this has been measured on a GPU.

        Parameters
        ----------
        tiles
            Coupled tiles that are kept.
        """
        phases = max(self.gradient, self.denoiser)
        step = (6 if self.planes else 2) * self.state + self.block + phases
        kept = (tiles or self.calls) * (self.data + (self.state if self.coupled else 0))
        return CUDA_CONTEXT + self.operator + step + kept

    def parts(self) -> dict[str, int]:
        """The terms by name."""
        names = ("cache", "operator", "data", "state", "gradient", "denoiser", "output")
        return {
            "libraries": self.libraries,
            **{name: int(getattr(self, name)) for name in names},
            "heap": self.heap,
        }
