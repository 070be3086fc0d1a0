"""YAML that says a thing twice, or that no reader can read, is refused in one line."""

from pathlib import Path

import pytest
import yaml

from ddgm_dist.cli.config import read_config, read_yaml
from ddgm_dist.deploy.lint import lint_text
from ddgm_dist.deploy.site import load_site
from ddgm_dist.errors import InputError
from ddgm_dist.readers.strict_yaml import YamlError, load, load_all

TWICE = "K: 20\nN: 3\n# more\nK: 25\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (TWICE, "has the key 'K' twice, in lines 1 and 4"),
        ("a:\n  b: 1\n  'b': 2\n", "has the key 'b' twice, in lines 2 and 3"),
        ("- {c: 1, c: 1}\n", "has the key 'c' twice, in lines 1 and 1"),
        ("a: &x {d: 1}\nb:\n  <<: *x\n  e: 1\n  e: 2\n", "has the key 'e' twice, in lines 4 and 5"),
        ("a: [1\n", "is not YAML"),
        ("a: 2020-13-45\n", "is not YAML"),
        ("a: " + "1" * 5000, "is not YAML"),
        ("[" * 2000, "is not YAML"),
        ("a: \0", "is not YAML"),
        (
            "? [1, 2]\n: 3\n? {}\n: 4\n",
            "has a list or a mapping as a key, in line 1; give it a name",
        ),
        ("a: 1\n? [1, 2]\n: 3\n? [1, 2]\n: 4\n", "has a list or a mapping as a key, in line 2;"),
        ("1: a\n0x1: b\n", "has the key '1' twice, the second time as '0x1', in lines 1 and 2"),
        ("on: a\nyes: b\n", "has the key 'on' twice, the second time as 'yes', in lines 1 and 2"),
        ("{~: a, null: b}", "has the key '~' twice, the second time as 'null'"),
        ("1: a\n1.0: b\n", "has the key '1' twice, the second time as '1.0'"),
        ("1: a\ntrue: b\n", "has the key '1' twice, the second time as 'true'"),  # to Python
        ("1e-3: a\n0.001: b\n", "has the key '1e-3' twice, the second time as '0.001'"),
        ("2020-13-45: a\n", "is not YAML"),
        ("a: &x {d: 1}\nb:\n  <<: *x\n  <<: *x\n", "has the key '<<' twice, in lines 3 and 4"),
    ],
)
def test_what_a_reader_would_have_to_choose_or_cannot_read_is_refused(text: str, why: str) -> None:
    with pytest.raises(YamlError, match=why) as told:
        load(text)
    assert "\n" not in str(told.value)


def test_what_is_said_once_is_what_pyyaml_reads() -> None:
    text = "a: &x {d: 1, e: [2, 3.5, true, null]}\nb:\n  <<: *x\n  d: 2\nc: 'N'\n"
    assert load(text) == yaml.safe_load(text)
    for text in ("1: a\n'1': b\n", "on: a\n'on': b\n", "a: {1: b}\n1: c\n", "'<<': 1\n"):
        assert load(text) == yaml.safe_load(text)
    assert load("") is None
    assert load("a: 1e-3") == {"a": 1e-3}  # by YAML 1.1 a text
    assert load_all("a: 1\n---\na: 2\n") == [{"a": 1}, {"a": 2}]
    with pytest.raises(YamlError, match="2 documents where one is wanted"):
        load("a: 1\n---\na: 2\n")


def test_every_file_that_people_write_is_read_so(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(TWICE)
    why = "has the key 'K' twice, in lines 1 and 4"
    for read in (
        lambda: read_config(path, ()),
        lambda: read_yaml(path, "--grid"),
        lambda: load_site(path),
        lambda: lint_text(TWICE),
    ):
        with pytest.raises(InputError, match=why):
            read()
    with pytest.raises(InputError, match=r"^--set = s=\{K: 1, K: 2\}: has the key 'K' twice"):
        read_config(None, ["s={K: 1, K: 2}"])
