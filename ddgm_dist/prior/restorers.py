"""Restorers ready for use: a user's Python function, or weights of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition, Restorer
from ddgm_dist.errors import InputError
from ddgm_dist.prior.precision import Precision
from ddgm_dist.prior.users_function import UsersFunction, import_function
from ddgm_dist.prior.weights_kind import refuse_other_kind

__all__ = [
    "FunctionRestorer",
    "LoadedRestorer",
    "TrainedRanges",
    "load_restorer",
    "restorer_files",
    "shared_restorer",
]

Range = tuple[float, float]

_CALLED = (
    "it is called as f(images, noise, acquisition), images float32 (batch, 2 neighbours + 1, z, x), "
    "and returns (batch, z, x)"
)
# Rows on each side that a function may ask for: each costs a tile as much reading as its own.
_MOST_NEIGHBOURS = 64


class FunctionRestorer:
    """A user's ``(images, noise, acquisition) -> restored``.

    Images are float32 ``(batch, 2 r + 1, z, x)``, the regularized inverses of the rows y - r to y + r,
    and what it returns is ``(batch, z, x)``. The function may carry the attributes ``stride``, if
    image extents must be multiples of it, and ``neighbours``, its r; they are 1 and 0 otherwise.

    Raises
    ------
    InputError
        An attribute is no whole number within its bounds.
    """

    def __init__(self, function: Callable[[Tensor, float, Acquisition], Any], name: str) -> None:
        self.function = UsersFunction(function, "restorer", name, _CALLED)
        self.stride = self.function.whole_number("stride", 1, least=1)
        self.neighbours = self.function.whole_number("neighbours", 0, least=0)
        if self.neighbours > _MOST_NEIGHBOURS:
            raise self.function.error(
                f"its attribute neighbours is {self.neighbours}, more than {_MOST_NEIGHBOURS}"
            )

    def __call__(
        self, images: Tensor, noise: float, acquisition: Acquisition, inside: Tensor
    ) -> Tensor:
        """Restored images; checked for type, shape and finiteness.

        Raises
        ------
        InputError
            The function raised an error (with its place in the code), or returned what cannot be used.
        MemoryError
            The function reported that memory is lacking. Other errors of memory and device pass through.
        """
        with torch.no_grad():
            return self.function(
                images * inside[:, None],
                noise,
                acquisition,
                shape=tuple(inside.shape),
                when=f"at noise = {noise:g}",
            )


@dataclass(frozen=True)
class TrainedRanges:
    """Series that a restorer was trained for, each as (least, most).

    Attributes
    ----------
    largest_angle_deg
        Magnitude of the steepest tilt, degrees.
    tilts
        Number of tilts.
    noise
        Standard deviation of the projections' noise, in units of the normalised volume.
    thickness
        Thickness of the slab, voxels.
    """

    largest_angle_deg: Range
    tilts: Range
    noise: Range
    thickness: Range

    def outside(self, acquisition: Acquisition, noise: float) -> tuple[str, ...]:
        """Clauses that say what of a series lies outside; empty where nothing does."""
        steepest = max(map(abs, acquisition.angles_deg))
        values = (
            ("tilts to {:g} degrees", steepest, self.largest_angle_deg),
            ("{:g} tilts", len(acquisition.angles_deg), self.tilts),
            ("noise of {:.3g} (sigma_y over the volume's deviation)", noise, self.noise),
            ("a thickness of {:g} voxels", acquisition.thickness, self.thickness),
        )
        return tuple(
            f"{words.format(value)} (trained for {low:g} to {high:g})"
            for words, value, (low, high) in values
            if not low <= value <= high
        )


@dataclass(frozen=True)
class LoadedRestorer:
    """A restorer with the properties that a plan and a record need.

    Attributes
    ----------
    restorer
        The callable; see :class:`ddgm_dist.algorithm.restorer.Restorer`.
    digest
        SHA-256 of its weights or source.
    reach
        Radius of its receptive field in pixels; 0 when unknown.
    activation
        Bytes per voxel that a call holds. That of a user's function is unknown, and taken as that of
        a few float32 images.
    trained
        Series that it was trained for; None where that is unknown.
    """

    restorer: Restorer
    digest: str
    reach: int = 0
    activation: float = 64.0
    trained: TrainedRanges | None = None


def load_restorer(
    name: str, *, device: torch.device | str = "cpu", precision: Precision = "bfloat16"
) -> LoadedRestorer:
    """Load a restorer by name.

    Parameters
    ----------
    name
        The path of a ``.safetensors`` of our recipe, or ``module:callable``.
    device, precision
        Where and in which arithmetic a network runs (:mod:`ddgm_dist.prior.precision`).

    Raises
    ------
    InputError
        It cannot be found or used.
    """
    if Path(name).suffix == ".safetensors":
        return _network(Path(name), device, precision)
    if ":" in name:
        function, digest = import_function("restorer", name)
        return LoadedRestorer(FunctionRestorer(function, name), digest)
    raise InputError("restorer", name, "is neither a .safetensors nor module:callable")


def shared_restorer(
    name: str, *, device: torch.device | str = "cpu", precision: Precision = "bfloat16"
) -> LoadedRestorer:
    """Load a restorer as `load_restorer` does, to be used by several and changed by nobody."""
    return load_restorer(name, device=device, precision=precision)


def restorer_files(name: str | None) -> list[tuple[str, Path]]:
    """Files of a restorer that `load_restorer` reads, each as ``("restorer", path)``."""
    files = [] if name is None else [Path(name), Path(name).with_suffix(".json")]
    return [("restorer", file.resolve()) for file in files if file.is_file()]


def _network(path: Path, device: torch.device | str, precision: Precision) -> LoadedRestorer:
    if not path.exists():
        raise InputError("restorer", str(path), "no such file", "give the path of a .safetensors")
    refuse_other_kind(path, "restorer")
    raise InputError(
        "restorer",
        str(path),
        "this version has no network that reads such weights",
        "give module:callable",
    )
