"""Run the install steps of a Dockerfile without a container engine: `make check-install`.

The COPY, ENV and RUN lines of its first stage are carried out as they stand, in a fresh directory that
takes the place of /; then the command of its HEALTHCHECK. What is not tried is the base image, the
creation of the user, and the copy into the second stage.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
# Where the first stage writes: these are moved under the fresh directory.
PLACES = ("/opt", "/src")


def lines(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions and their arguments, continued lines joined."""
    parser = DockerfileParser(fileobj=io.BytesIO(dockerfile.read_bytes()))
    return [
        (each["instruction"], each["value"])
        for each in parser.structure
        if each["instruction"] != "COMMENT"
    ]


def first_stage(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is between the first FROM and the second."""
    starts = [number for number, (name, _) in enumerate(found) if name == "FROM"]
    return found[starts[0] + 1 : starts[1]]


def healthcheck(found: list[tuple[str, str]]) -> list[str]:
    """Words of the smoke command."""
    (value,) = [value for name, value in found if name == "HEALTHCHECK"]
    words: list[str] = json.loads(value[value.index("CMD") + 3 :])
    return words


def moved(text: str, root: Path) -> str:
    """A command with the image's directories under the fresh one."""
    return re.sub(rf"(?<![\w/.])({'|'.join(PLACES)})(?=/|\s|$)", rf"{root}\1", text)


def main() -> int:
    """Carry it out; the exit status of the first step that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "dockerfile", nargs="?", type=Path, default=Path(__file__).with_name("Dockerfile")
    )
    parser.add_argument("--python", default=sys.executable, help="takes the base image's place")
    options = parser.parse_args()
    found = lines(options.dockerfile)
    with tempfile.TemporaryDirectory(prefix="ddgm-install-") as name:
        return _carry_out(found, Path(name), options.python)


def _carry_out(instructions: list[tuple[str, str]], root: Path, python: str) -> int:
    base = root / "base"
    base.mkdir()
    (base / "python").symlink_to(Path(python).absolute())
    # Nothing of the environment that this runs in may be found instead of what is installed.
    outside = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = {**outside, "PATH": f"{base}:{os.environ['PATH']}", "HOME": str(root)}
    here = root
    for name, value in first_stage(instructions):
        if name == "ENV":
            environment |= dict(re.findall(r"(\w+)=(\S+)", value))
        elif name == "WORKDIR":
            here = Path(moved(value, root))
            here.mkdir(parents=True)
        elif name == "COPY":
            *sources, target = value.split()
            for source in sources:
                _copy(ROOT / source, here / target)
        elif name == "RUN":
            print(f"+ {value}", flush=True)
            command = moved(value, root)
            if status := subprocess.run(
                ["sh", "-c", command], cwd=here, env=environment, check=False
            ).returncode:
                return status
    environment["PATH"] = f"{root}/opt/ddgm/bin:{os.environ['PATH']}"
    smoke = [healthcheck(instructions), ["ddgm-dist", "--version"]]
    for words in [*smoke, *checks(instructions)]:
        print(f"+ {' '.join(words)}", flush=True)
        program = shutil.which(words[0], path=environment["PATH"])
        if program is None or not program.startswith(str(root)):
            print(f"{words[0]} was not installed", file=sys.stderr)
            return 1
        if status := subprocess.run(
            [program, *words[1:]], cwd=root, env=environment, check=False
        ).returncode:
            return status
    freeze = [f"{root}/opt/ddgm/bin/pip", "list", "--format=freeze"]
    installed = subprocess.run(freeze, env=environment, capture_output=True, text=True, check=True)
    if found := unpinned(installed.stdout, (ROOT / "constraints.txt").read_text(encoding="utf-8")):
        print(f"not in constraints.txt: {', '.join(found)}", file=sys.stderr)
        return 1
    print("installed, and it runs")
    return 0


def unpinned(installed: str, constraints: str) -> list[str]:
    """Packages whose version nothing fixes, so that a build tomorrow may get another one.

    Parameters
    ----------
    installed
        As ``pip list --format=freeze`` prints it.
    constraints
        The file's text.
    """
    fixed = {_normal(line.partition("==")[0]) for line in constraints.splitlines() if "==" in line}
    # The package itself, and what the base image brings.
    fixed |= {"ddgm-dist", "pip", "setuptools"}
    return [
        line
        for line in installed.splitlines()
        if "==" in line and _normal(line.partition("==")[0]) not in fixed
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def checks(found: list[tuple[str, str]]) -> list[list[str]]:
    """What the second stage tries of the installation: that torch is the one meant."""
    last = found[len(first_stage(found)) :]
    return [
        ["python", "-c", match[1]]
        for name, value in last
        if name == "RUN" and (match := re.fullmatch(r'python -c "(.*)"', value))
    ]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main())
