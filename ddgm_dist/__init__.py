"""Limited-angle tomography with diffusion priors (DDGM), tiled over Ray, out of and into Zarr.

Importing this package is cheap and has no side effects: every public name is loaded when it is
first used.

>>> import ddgm_dist as dd
>>> dd.simulate("tissue.zarr", "tilts.zarr", noise="gaussian:0.05")  # doctest: +SKIP
>>> result = dd.reconstruct("tilts.zarr", "out.zarr", engine="local")  # doctest: +SKIP
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddgm_dist.algorithm.ddgm import ddgm
    from ddgm_dist.algorithm.descent import explicit_descent
    from ddgm_dist.algorithm.image_prior import ImagePrior
    from ddgm_dist.algorithm.likelihood import GaussianLikelihood, PoissonLikelihood
    from ddgm_dist.algorithm.nonlinear import Differentiable, Linear, nonlinear_descent
    from ddgm_dist.algorithm.schedule import (
        denoising_steps,
        exponential,
        make_schedule,
        noise_levels,
    )
    from ddgm_dist.core.box import Box
    from ddgm_dist.demo.demo import run_demo
    from ddgm_dist.errors import DdgmError, InputError, PlanError, StorageError
    from ddgm_dist.evaluation.evaluate import evaluate
    from ddgm_dist.evaluation.pyramid import build_pyramid
    from ddgm_dist.evaluation.ring_correlation import ring_correlation
    from ddgm_dist.inspection.status import read_status
    from ddgm_dist.operators.base import operator_norm_squared
    from ddgm_dist.operators.blur import Blur, disc_kernel, gaussian_kernel
    from ddgm_dist.operators.fourier import MaskedFourier
    from ddgm_dist.operators.fourier_masks import cartesian_mask, variable_density_mask
    from ddgm_dist.operators.inpainting import Inpainting
    from ddgm_dist.operators.transmission import Transmission, log_linearise
    from ddgm_dist.prior.denoisers import load_denoiser
    from ddgm_dist.readers.volumes import open_volume
    from ddgm_dist.records.result import open_result
    from ddgm_dist.runs.reconstruct import plan as make_plan
    from ddgm_dist.runs.reconstruct import reconstruct
    from ddgm_dist.simulation.phantom import TissuePhantom
    from ddgm_dist.simulation.simulate import simulate
    from ddgm_dist.tilts.ingest import ingest
    from ddgm_dist.tilts.series import TiltSeriesMeta, open_tilt_series, write_tilt_series
    from ddgm_dist.training.train import train
    from ddgm_dist.tuning.tune import tune

    __version__: str

__all__ = [
    "Blur",
    "Box",
    "DdgmError",
    "Differentiable",
    "GaussianLikelihood",
    "ImagePrior",
    "Inpainting",
    "InputError",
    "Linear",
    "MaskedFourier",
    "PlanError",
    "PoissonLikelihood",
    "StorageError",
    "TiltSeriesMeta",
    "TissuePhantom",
    "Transmission",
    "__version__",
    "build_pyramid",
    "cartesian_mask",
    "ddgm",
    "denoising_steps",
    "disc_kernel",
    "evaluate",
    "explicit_descent",
    "exponential",
    "gaussian_kernel",
    "ingest",
    "load_denoiser",
    "log_linearise",
    "make_plan",
    "make_schedule",
    "noise_levels",
    "nonlinear_descent",
    "open_result",
    "open_tilt_series",
    "open_volume",
    "operator_norm_squared",
    "read_status",
    "reconstruct",
    "ring_correlation",
    "run_demo",
    "simulate",
    "train",
    "tune",
    "variable_density_mask",
    "write_tilt_series",
]

# Public name -> where it is defined (module, name there).
_HOMES = {
    "Blur": ("ddgm_dist.operators.blur", "Blur"),
    "Differentiable": ("ddgm_dist.algorithm.nonlinear", "Differentiable"),
    "GaussianLikelihood": ("ddgm_dist.algorithm.likelihood", "GaussianLikelihood"),
    "ImagePrior": ("ddgm_dist.algorithm.image_prior", "ImagePrior"),
    "Inpainting": ("ddgm_dist.operators.inpainting", "Inpainting"),
    "Linear": ("ddgm_dist.algorithm.nonlinear", "Linear"),
    "MaskedFourier": ("ddgm_dist.operators.fourier", "MaskedFourier"),
    "PoissonLikelihood": ("ddgm_dist.algorithm.likelihood", "PoissonLikelihood"),
    "Transmission": ("ddgm_dist.operators.transmission", "Transmission"),
    "cartesian_mask": ("ddgm_dist.operators.fourier_masks", "cartesian_mask"),
    "ddgm": ("ddgm_dist.algorithm.ddgm", "ddgm"),
    "denoising_steps": ("ddgm_dist.algorithm.schedule", "denoising_steps"),
    "disc_kernel": ("ddgm_dist.operators.blur", "disc_kernel"),
    "explicit_descent": ("ddgm_dist.algorithm.descent", "explicit_descent"),
    "exponential": ("ddgm_dist.algorithm.schedule", "exponential"),
    "gaussian_kernel": ("ddgm_dist.operators.blur", "gaussian_kernel"),
    "load_denoiser": ("ddgm_dist.prior.denoisers", "load_denoiser"),
    "log_linearise": ("ddgm_dist.operators.transmission", "log_linearise"),
    "make_schedule": ("ddgm_dist.algorithm.schedule", "make_schedule"),
    "noise_levels": ("ddgm_dist.algorithm.schedule", "noise_levels"),
    "nonlinear_descent": ("ddgm_dist.algorithm.nonlinear", "nonlinear_descent"),
    "operator_norm_squared": ("ddgm_dist.operators.base", "operator_norm_squared"),
    "variable_density_mask": ("ddgm_dist.operators.fourier_masks", "variable_density_mask"),
    "Box": ("ddgm_dist.core.box", "Box"),
    "DdgmError": ("ddgm_dist.errors", "DdgmError"),
    "InputError": ("ddgm_dist.errors", "InputError"),
    "PlanError": ("ddgm_dist.errors", "PlanError"),
    "StorageError": ("ddgm_dist.errors", "StorageError"),
    "TiltSeriesMeta": ("ddgm_dist.tilts.series", "TiltSeriesMeta"),
    "TissuePhantom": ("ddgm_dist.simulation.phantom", "TissuePhantom"),
    "build_pyramid": ("ddgm_dist.evaluation.pyramid", "build_pyramid"),
    "evaluate": ("ddgm_dist.evaluation.evaluate", "evaluate"),
    "ingest": ("ddgm_dist.tilts.ingest", "ingest"),
    # Not `plan`: that is the subpackage, which `import ddgm_dist.planning.tiling as t` must find.
    "make_plan": ("ddgm_dist.runs.reconstruct", "plan"),
    "open_result": ("ddgm_dist.records.run_record", "open_result"),
    "open_tilt_series": ("ddgm_dist.tilts.series", "open_tilt_series"),
    "open_volume": ("ddgm_dist.readers.volumes", "open_volume"),
    "reconstruct": ("ddgm_dist.runs.reconstruct", "reconstruct"),
    "ring_correlation": ("ddgm_dist.evaluation.ring_correlation", "ring_correlation"),
    "run_demo": ("ddgm_dist.demo.demo", "run_demo"),
    "read_status": ("ddgm_dist.inspection.status", "read_status"),
    "simulate": ("ddgm_dist.simulation.simulate", "simulate"),
    "train": ("ddgm_dist.training.train", "train"),
    "tune": ("ddgm_dist.tuning.tune", "tune"),
    "write_tilt_series": ("ddgm_dist.tilts.series", "write_tilt_series"),
}


class _Package(ModuleType):
    """The package itself: a function named like its module (``reconstruct``) hides the module.

    When a submodule is first imported, Python sets it as an attribute of its package, so what
    ``ddgm_dist.runs.reconstruct`` means would depend on what had been imported before. Ignoring that
    one assignment makes it always the function; ``from ddgm_dist.runs.reconstruct import ...`` does
    not read the attribute and works as ever.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


if not TYPE_CHECKING:  # hidden, so that a type checker still refuses unknown names

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return _version()
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _HOMES[name]
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value


def _version() -> str:
    from importlib import metadata  # 40 ms that most uses need not pay

    try:
        return metadata.version("ddgm-dist")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
