"""The list of what is installed names what the package runs on."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest


def test_the_sbom_names_what_is_installed(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    out = tmp_path / "sbom.json"
    words = ["environment", "--output-reproducible", "--output-format", "JSON", "--no-validate"]
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", *words, "--output-file", str(out), sys.executable],
        check=True,
        capture_output=True,
    )
    document = json.loads(out.read_text())
    assert document["bomFormat"] == "CycloneDX"
    found = {part["name"].lower(): part for part in document["components"]}
    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        name = line.partition(">")[0].partition("[")[0]
        assert found[name]["version"] == metadata.version(name)
    assert found["torch"]["licenses"]
