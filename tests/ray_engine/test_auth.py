"""A Ray of our own asks for a token, whoever started it, and leaves none lying about."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

# In a process of its own: the mode of authentication is a matter of the process.
RUN = """
import os, subprocess, sys
from ddgm_dist.ray_engine.cluster import connected

before = dict(os.environ)
ray = os.path.join(os.path.dirname(sys.executable), "ray")
with connected(None):
    import ray as client

    words = [ray, "health-check", "--address", client.get_runtime_context().gcs_address]
    outside = {**before, "RAY_AUTH_MODE": "disabled"}
    print("stranger", subprocess.run(words, env=outside, capture_output=True).returncode)
    wrong = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
    print("wrong", subprocess.run(words, env=wrong, capture_output=True).returncode)
    print("ours", subprocess.run(words, capture_output=True).returncode)
    print("token", os.environ.get("RAY_AUTH_TOKEN", ""))
assert dict(os.environ) == before
"""


def run(home: Path, **environment: str) -> tuple[dict[str, str], str]:
    """What the process prints, by first words; and its standard error."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**inherited, "HOME": str(home), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    return {name: value for name, _, value in lines}, done.stderr


def test_a_local_start_is_closed_to_whoever_has_no_token(tmp_path: Path) -> None:
    first, told = run(tmp_path)
    assert (first["stranger"], first["wrong"], first["ours"]) == ("1", "1", "0")
    assert len(first["token"]) == 64
    assert "authentication" not in told  # Ray's notice
    assert first["token"] not in told
    # Ray would have kept it in a file that all users of the machine can read.
    assert not (tmp_path / ".ray").exists()
    assert run(tmp_path)[0]["token"] != first["token"]


def test_the_users_own_token_is_taken(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("5" * 64)
    found, _ = run(tmp_path, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert (found["stranger"], found["wrong"], found["ours"]) == ("1", "1", "0")
    assert found["token"] == ""


def test_who_says_so_gets_no_authentication(tmp_path: Path) -> None:
    found, _ = run(tmp_path, RAY_AUTH_MODE="disabled")
    assert (found["stranger"], found["token"]) == ("0", "")
