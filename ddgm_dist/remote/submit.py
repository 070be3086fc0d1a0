"""A reconstruction as a job of a running cluster, submitted from elsewhere.

The job's folder holds the configuration, and a denoiser and a restorer that were named by relative
paths. It also holds this package, unless the cluster's image has it. Nothing is pickled between here and
there.
"""

from __future__ import annotations

import platform
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ddgm_dist.core.units import MIB, format_bytes
from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.paths.place import is_url
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.planning.config import Config, parse_config
from ddgm_dist.planning.network_files import network_files
from ddgm_dist.remote.job_server import JobServer

__all__ = ["LARGEST", "check_versions", "own_versions", "submit"]

LARGEST = 95 * MIB  # bytes of a job's folder; Ray's dashboard takes requests of 100 MiB
_CONFIG = "run.yaml"


def submit(
    server: JobServer | str | None,
    tilts: str | Path,
    out: str | Path,
    config: Config | Mapping[str, Any] | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    overwrite: bool = False,
    verify_input: bool = False,
    installed: bool = False,
    ignore_version_mismatch: bool = False,
) -> str:
    """Start a reconstruction on a cluster; returns at once.

    Parameters
    ----------
    server
        URL of the cluster's dashboard, such as ``http://HOST:8265``; None takes that of the
        environment. Or a :class:`ddgm_dist.remote.job_server.JobServer`, which takes more options.
    tilts, out
        Tilt series and volume as the cluster's nodes see them: absolute paths or URLs.
    config
        Configuration keys. The relative path of a denoiser or restorer is a file here, which is sent
        along.
    workers, memory, overwrite, verify_input
        As for :func:`ddgm_dist.runs.reconstruct.reconstruct`, which runs on Ray there.
    installed
        The cluster has this package: send the configuration alone.
    ignore_version_mismatch
        Submit even where package versions differ.

    Returns
    -------
    str
        The job's name.

    Raises
    ------
    InputError
        The input cannot be used, or versions differ.
    DdgmError
        The cluster does not take the job.
    """
    check_store_name(out)
    resolved = parse_config(config)
    words = [*(["ddgm-dist"] if installed else ["python", "-m", "ddgm_dist"]), "reconstruct"]
    words += [_seen_from_afar("tilts", tilts), _seen_from_afar("out", out)]
    words += ["--config", _CONFIG, "--address", "auto"]
    words += [] if workers is None else ["--workers", str(workers)]
    words += [] if memory is None else ["--memory", str(memory)]
    words += ["--overwrite"] if overwrite else []
    words += ["--verify-input"] if verify_input else []
    if not isinstance(server, JobServer):
        server = JobServer(server)
    job = f"ddgm-{secrets.token_hex(6)}"
    with tempfile.TemporaryDirectory(prefix="ddgm-job-") as name:
        folder = Path(name)
        networks = network_files(resolved)
        sent = {key: _send_network(key, file, folder) for key, file in networks.items()}
        given = resolved.model_dump(mode="json", exclude_unset=True)
        (folder / _CONFIG).write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
        if not installed:
            _send_package(folder)
        _check_size(folder, sent, networks)
        if not ignore_version_mismatch:
            found = dict(server.versions)
            if installed:
                found["ddgm-dist"] = _installed_version(server)
            check_versions(found)
        server.submit(job, shlex.join(words), folder)
    return job


def own_versions() -> dict[str, str]:
    """Versions here, of what is compared."""
    return {
        "ray": metadata.version("ray"),
        "python": platform.python_version(),
        "ddgm-dist": metadata.version("ddgm-dist"),
    }


def check_versions(there: Mapping[str, str]) -> None:
    """Refuse a cluster that has other versions than this machine.

    Parameters
    ----------
    there
        Version by name, of those that are known. Of Python, the last number may differ.

    Raises
    ------
    InputError
        Names each that differs, and what to do.
    """
    here = own_versions()
    differ = [
        f"{name} {version} there, {here[name]} here"
        for name, version in there.items()
        if _significant(name, version) != _significant(name, here[name])
    ]
    if differ:
        advice = "install the cluster's versions here, or take an image with those of here"
        if "ddgm-dist" in there:
            advice += "; without --installed this ddgm-dist is sent along"
        raise InputError(
            "versions",
            ", ".join(differ),
            "a plan that was tried here may not be what runs there",
            f"{advice}; --ignore-version-mismatch submits nevertheless",
        )


def _significant(name: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if name == "python" else version


def _seen_from_afar(argument: str, path: str | Path) -> str:
    """A place that does not depend on the folder that one is in."""
    text = str(path)
    if is_url(text) or PurePosixPath(text).is_absolute():
        return text
    raise InputError(
        argument,
        text,
        "is relative to a folder here, which the cluster does not know",
        "give the absolute path that its nodes see, or a URL such as s3://bucket/path",
    )


def _send_network(key: str, name: str, folder: Path) -> int:
    """Copy a network's file that is named by a relative path, to be found there by the same.

    Returns the bytes that were copied.
    """
    path = Path(name)
    if path.is_absolute():
        return 0
    if ".." in path.parts:
        raise InputError(key, name, "leads out of this folder", "go to its folder, or copy it here")
    if not path.is_file():
        raise InputError(
            key,
            name,
            "no such file here, from where it would be sent along",
            "give the absolute path that the cluster's nodes see",
        )
    recipe = path.with_suffix(".json")  # beside weights that `ddgm-dist train` wrote
    files = (path, recipe) if recipe.is_file() else (path,)
    for file in files:
        copy = folder / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return sum(file.stat().st_size for file in files)


def _send_package(folder: Path) -> None:
    """Copy this package, with the metadata that tells its version."""
    package = Path(__file__).parents[1]
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, folder / package.name, ignore=without)
    found = metadata.distribution("ddgm-dist")
    about = folder / f"ddgm_dist-{found.version}.dist-info"
    about.mkdir()
    text = f"Metadata-Version: 2.1\nName: ddgm-dist\nVersion: {found.version}\n"
    (about / "METADATA").write_text(text, encoding="utf-8")


def _check_size(folder: Path, sent: Mapping[str, int], names: Mapping[str, str]) -> None:
    """Refuse a folder that is too large, by the network that takes most of it."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size <= LARGEST:
        return
    limit = f"may hold {format_bytes(LARGEST)}: the dashboard takes no more than 100 MiB"
    parts = {key: format_bytes(count) for key, count in sent.items() if count}
    if not parts:
        raise InputError(
            "installed",
            False,
            f"{format_bytes(size)} of this package would be sent along, and a job's folder {limit}",
            "install ddgm-dist on the cluster, and submit with --installed",
        )
    key = max(sent, key=lambda key: sent[key])
    listed = ", ".join(f"the {each} {part}" for each, part in parts.items())
    raise InputError(
        key,
        names[key],
        f"{format_bytes(size)} would be sent along ({listed}), and a job's folder {limit}",
        f"put the {key} where the cluster's nodes see it, and give its absolute path",
    )


def _installed_version(server: JobServer) -> str:
    """Version of the cluster's ``ddgm-dist``, asked by a job that does nothing else."""
    job, printed = f"ddgm-version-{secrets.token_hex(4)}", list[str]()
    server.submit(job, "ddgm-dist --version", None)
    outcome = server.follow(job, printed.append)
    server.forget(job)
    found = re.search(r"^ddgm-dist (\S+)$", "".join(printed), re.MULTILINE)
    if outcome.exit_status or not found:
        last = ("".join(printed).strip().splitlines() or [outcome.message])[-1]
        raise DdgmError(
            f"{server.address}: `ddgm-dist --version` fails there ({last}); is the package in the "
            "cluster's image? Without --installed it is sent along"
        )
    return found[1]
