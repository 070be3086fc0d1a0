"""The command line of a job, which resumes when it is run again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from ddgm_dist.core.units import MIB
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.errors import InputError
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.network_files import network_files

__all__ = ["Run", "check_networks", "reconstruct_command"]


@dataclass(frozen=True)
class Run:
    """A reconstruction, with paths as the nodes see them.

    Attributes
    ----------
    tilts, out
        Stores: paths that every node sees, or URLs such as ``s3://bucket/tilts.zarr``.
    config
        Path of a YAML configuration where the driver runs; none when empty.
    overrides
        Options ``key=value`` for ``--set``, in order.
    options
        Further options of ``reconstruct``, word by word.
    """

    tilts: str
    out: str
    config: str = ""
    overrides: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("tilts", "out", "config"):
            value = getattr(self, name)
            if not value and name != "config":
                raise InputError(name, value, "is empty")
            if value.startswith("-") or any(ord(c) < 32 or ord(c) == 127 for c in value):
                raise InputError(
                    name, value, "starts with a dash or has control characters", "rename the store"
                )
        check_store_name(self.out)
        for name in ("tilts", "out"):
            value = getattr(self, name)
            if "://" not in value and not value.startswith("/"):
                raise InputError(
                    name,
                    value,
                    "is a relative path, which every node would look for in another place",
                    "give an absolute path that all nodes see, or a URL such as s3://bucket/path",
                )


def check_networks(config: ProblemConfig) -> None:
    """Refuse files of networks that each node would look for in another place.

    Raises
    ------
    InputError
        The path of the denoiser, or of a restorer that is used, is not absolute.
    """
    for key, name in network_files(config).items():
        if not PurePosixPath(name).is_absolute():
            raise InputError(
                key,
                name,
                "is no absolute path, and every node would look for it in another place",
                "give an absolute path that all nodes see",
            )


def reconstruct_command(
    run: Run, resources: Resources, *, address: str | None = "auto"
) -> tuple[str, ...]:
    """The words of the driver's command.

    Run again on the same output it resumes, so a retry is the same command.

    Parameters
    ----------
    run, resources
        The reconstruction and its resources.
    address
        Address of the Ray cluster; the command's own default when None.
    """
    words = ["ddgm-dist", "reconstruct", run.tilts, run.out]
    if run.config:
        words += ["--config", run.config]
    for override in run.overrides:
        words += ["--set", override]
    words += [*run.options, "--engine", "ray"]
    if address is not None:
        words += ["--address", address]
    words += ["--workers", str(resources.workers)]
    # Exactly the memory that Ray has on the node: a byte more would not fit.
    size = resources.memory
    words += ["--memory", f"{size // MIB}MiB" if size % MIB == 0 else str(size)]
    return tuple(words)
