"""Profiles: what is not of one is refused with what there is."""

from pathlib import Path

import pytest

from ddgm_dist.deploy.site import load_site, parse_site
from ddgm_dist.errors import InputError
from tests.deploy.kuberay import KUBERNETES

IMAGE = {"image": "registry.example/ddgm-dist:0.1.0"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kuberntes": {}}, "did you mean kubernetes?"),
        ({"kubernetes": IMAGE | {"workers": {"gpu": 1}}}, "did you mean gpus?"),
        ({"kubernetes": IMAGE | {"volumes": [{"claim": "x", "pth": "/d"}]}}, "did you mean path?"),
        ({"slurm": {"partion": "gpu"}}, "did you mean partition?"),
        ({"kubernetes": {}}, "kubernetes.image = nothing"),
        ({"kubernetes": {"image": "registry.example/ddgm-dist"}}, "with a tag or a digest"),
        ({"kubernetes": IMAGE | {"workers": {"memory": "512Li"}}}, "such as 32GiB"),
        ({"partition": "gpu"}, "write it below `slurm:`"),
        ({"image": "a:1"}, "write it below `kubernetes:`"),
        ({"object_store": "1GiB"}, "write it below `kubernetes:` or `slurm:`"),
        ({"slurm": {"setup": "source x"}}, "slurm.setup = source x: is not a list"),
        ({"slurm": {"time": "24h"}}, '"24:00:00"'),
        ({"slurm": {"gpu_type": "a 100"}}, "type of GPU, as in --gres=gpu:TYPE:N"),
        ({"kubernetes": IMAGE | {"volumes": [{"claim": "A", "path": "/"}]}}, "small letters"),
        ({"kubernetes": IMAGE | {"uid": 0}}, "not root"),
        ({"kubernetes": IMAGE | {"workers": {"memory": "much"}}}, "such as 32GiB"),
        ({"slurm": {"partition": "a; rm -rf /"}}, "slurm.partition"),
        ({"slurm": {"time": "tomorrow"}}, "slurm.time"),
        ({"kubernetes": IMAGE | {"volumes": [{"claim": "x", "path": "data"}]}}, "volumes.0.path"),
    ],
)
def test_a_wrong_profile_is_refused_with_what_would_do(
    values: dict[str, object], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_site(values)
    assert says in str(caught.value)
    # Neither a regular expression nor Python's types are words for those who write profiles.
    assert not any(word in str(caught.value) for word in ("pattern", "tuple", "^"))


@pytest.mark.parametrize(
    ("size", "count"), [("512Mi", 2**29), ("1.5Gi", 3 * 2**29), ("4 GiB", 2**32), (2**30, 2**30)]
)
def test_sizes_as_kubernetes_writes_them(size: str | int, count: int) -> None:
    found = parse_site({"kubernetes": IMAGE | {"workers": {"memory": size}}, "slurm": {}})
    assert found.on_kubernetes().workers.memory == count


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kubernetes: [", "is not YAML"),
        ("- a", "is not a mapping"),
        ("", "is not a mapping"),
        ("slurm: {port: 6379}\nslurm: {}", "has the key 'slurm' twice"),
        ("slurm:\n  qos: a\n  time: '1'\n  qos: b", "has the key 'qos' twice"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        load_site(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml.*no such file"):
        load_site(tmp_path / "nowhere.yaml")


def test_sections_that_are_missing() -> None:
    found = parse_site({})
    assert found.on_slurm().port == 6379
    with pytest.raises(InputError, match="has no section kubernetes"):
        found.on_kubernetes()
    # Defaults for another cluster's profile would be a script for nowhere.
    with pytest.raises(InputError, match="has no section slurm"):
        parse_site({"kubernetes": IMAGE}).on_slurm()


@pytest.mark.parametrize("path", sorted(KUBERNETES.rglob("site.yaml")), ids=lambda p: p.parent.name)
def test_committed_profiles_load(path: Path) -> None:
    assert load_site(path).kubernetes is not None
