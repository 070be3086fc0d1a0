"""Files of networks that a run reads, from its configuration alone."""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.planning.config import ProblemConfig

__all__ = ["network_files"]

_SUFFIXES = (".safetensors", ".pt", ".ts", ".torchscript")


def network_files(config: ProblemConfig) -> dict[str, str]:
    """Names of files by the key that names them: the denoiser's, and the restorer's where it is used.

    Names of shipped weights and of functions are left out.
    """
    names = {"denoiser": config.denoiser}
    if config.start == "restored":
        names["restorer"] = config.restorer
    return {key: name for key, name in names.items() if Path(name).suffix in _SUFFIXES}
