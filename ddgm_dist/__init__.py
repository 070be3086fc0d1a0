"""Limited-angle tomography with diffusion priors (DDGM), tiled over Ray, out of and into Zarr.

Importing this package is cheap and has no side effects: every public name is loaded when it is
first used. ``__init__.pyi`` lists them; everything else is imported from its subpackage.

>>> import ddgm_dist as dd
>>> dd.simulate("tissue.zarr", "tilts.zarr", noise="gaussian:0.05")  # doctest: +SKIP
>>> result = dd.reconstruct("tilts.zarr", "out.zarr", engine="local")  # doctest: +SKIP
"""

import lazy_loader

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    return _version() if name == "__version__" else _public(name)


def _version() -> str:
    from importlib import metadata  # 40 ms that most uses need not pay

    try:
        return metadata.version("ddgm-dist")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
