"""Damaged text files: an answer, or an error that says why; and never a silent half of an answer.

A thousand mutations of each format: bytes flipped, lost, repeated, lines swapped, repeated or lost, the
end cut off. What a reader can notice of them it has to refuse; the laws below say what that is.
"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddgm_dist.errors import InputError
from ddgm_dist.readers.angles import read_angles
from ddgm_dist.readers.aretomo.alignment import read_aln
from ddgm_dist.readers.imod.commands import read_newstack_command, read_tilt_command
from ddgm_dist.readers.imod.lists import parse_views
from ddgm_dist.readers.imod.transforms import read_axis_tilts, read_xf
from ddgm_dist.readers.serialem.mdoc import read_mdoc
from ddgm_dist.readers.text import read_text
from tests.readers.tomography_texts import NEWST_COM, TILT_COM, aln, mdoc, xf, xtilt

TILTS = [float(t) for t in range(-60, 61, 20)]
ALN = aln([1, 2, 4, 5, 6], [TILTS[i - 1] for i in (1, 2, 4, 5, 6)],
          [(2, 3, TILTS[2]), (6, 7, TILTS[6])], patches=1)  # fmt: skip
TLT = "".join(f"{t + 0.04:8.2f}\n" for t in TILTS)
FILES = {
    "xf": (read_xf, xf()),
    "xtilt": (read_axis_tilts, xtilt()),
    "tlt": (read_angles, TLT),
    "tilt.com": (read_tilt_command, TILT_COM),
    "newst.com": (read_newstack_command, NEWST_COM),
    "mdoc": (read_mdoc, mdoc()),
    "aln": (read_aln, ALN),
}
ALMOST = settings(
    max_examples=1000,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def mutated(raw: bytes, seed: int) -> bytes:
    """One to three mutations of a file."""
    rng = random.Random(seed)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if len(raw) > 1:
            raw = rng.choice(MUTATIONS)(raw, rng)
    return raw


def flip(raw, rng):
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]


def replace(raw, rng):
    at = rng.randrange(len(raw))
    byte = rng.choice([*b"0123456789+-.,eEdD=#$[]\n\r\t \\/\"'", rng.randrange(256)])
    return raw[:at] + bytes([byte]) + raw[at + 1 :]


def lose(raw, rng):
    begin = rng.randrange(len(raw))
    return raw[:begin] + raw[begin + rng.choice([1, 1, 2, 9, 60]) :]


def repeat(raw, rng):
    begin = rng.randrange(len(raw))
    end = begin + rng.choice([1, 1, 2, 9, 60])
    return raw[:end] + raw[begin:]


def cut(raw, rng):
    return raw[: rng.randrange(1, len(raw))]


def of_lines(raw, rng):
    lines = raw.split(b"\n")
    i, k = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(3):
        case 0:
            lines[i], lines[k] = lines[k], lines[i]
        case 1:
            lines.insert(i, lines[k])
        case 2:
            del lines[i]
    return b"\n".join(lines)


MUTATIONS = [flip, replace, lose, repeat, cut, of_lines]


def answer(read, path, raw):
    """What a reader answers; None if it refuses with a reason."""
    path.write_bytes(raw)
    found, refusal = outcome(read, path)
    assert refusal is None or (refusal.why and str(path) in str(refusal))
    return found


def outcome(call, *arguments):
    """An answer and no refusal, or a refusal and no answer; any other exception is a fault."""
    try:
        return call(*arguments), None
    except InputError as error:
        return None, error


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gives_an_answer_or_a_reason(tmp_path, name):
    read, text = FILES[name]
    assert answer(read, tmp_path / name, text.encode()) is not None
    seen = set()

    @ALMOST
    @given(seed=st.integers(0, 10**9), encoding=st.sampled_from(["utf-8"] * 9 + ["utf-16"]))
    def run(seed, encoding):
        raw = mutated(text.encode(encoding), seed)
        found = answer(read, tmp_path / name, raw)
        seen.add(found is None)
        check_finite(found)
        if name == "xf" and found is not None:
            lines = read_text(tmp_path / name, "transforms").rstrip().split("\n")
            assert len(found) == len(lines)

    run()
    assert seen == {True, False}


def check_finite(found):
    """All numbers of an answer are numbers."""
    if isinstance(found, float):
        assert math.isfinite(found)
    elif isinstance(found, tuple):
        for item in found:
            check_finite(item)
    elif hasattr(found, "__dataclass_fields__"):
        check_finite(tuple(getattr(found, field) for field in found.__dataclass_fields__))


@pytest.mark.parametrize("name", FILES)
def test_any_bytes_give_an_answer_or_a_reason(tmp_path, name):
    read, _ = FILES[name]

    @settings(ALMOST, max_examples=100)
    @given(st.one_of(st.binary(max_size=80), st.text(max_size=60).map(str.encode)))
    def run(raw):
        answer(read, tmp_path / name, raw)

    run()


@pytest.mark.parametrize("name", ["xf", "xtilt", "tlt"])
def test_a_table_that_is_cut_anywhere_gives_whole_rows_alone(tmp_path, name):
    read, text = FILES[name]
    whole = read_whole = answer(read, tmp_path / name, text.encode())
    assert read_whole is not None
    for end in range(1, len(text)):
        found = answer(read, tmp_path / name, text[:end].encode())
        rows = text.count("\n", 0, end)
        if found is None:
            continue
        # Two lines show no pattern: there a number may have lost digits.
        assert found == whole[: len(found)] or rows < 2
        assert rows <= len(found) <= rows + 1


def test_an_alignment_that_is_cut_anywhere_is_refused(tmp_path):
    for end in range(0, len(ALN) - 1, 2):
        assert answer(read_aln, tmp_path / "aln", ALN[:end].encode()) is None, ALN[:end]


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_an_alignment_that_loses_lines_loses_no_view(tmp_path, lines):
    table = ALN.split("\n")
    for i in range(len(table) - lines):
        found = answer(
            read_aln, tmp_path / "aln", "\n".join(table[:i] + table[i + lines :]).encode()
        )
        # Only the title, an offset or the thickness may be missing.
        assert found is None or (len(found.views), len(found.dark_frames)) == (5, 2)


def test_metadata_that_are_cut_anywhere_give_whole_entries_alone(tmp_path):
    text, whole = mdoc(), answer(read_mdoc, tmp_path / "mdoc", mdoc().encode())
    first = text.index("[ZValue = 1]")
    for end in range(first, len(text), 7):
        found = answer(read_mdoc, tmp_path / "mdoc", text[:end].encode())
        if found is None:
            continue
        *complete, last = found.sections
        assert complete == list(whole.sections[: len(complete)])
        wanted = whole.sections[len(complete)]
        for field in last.__dataclass_fields__:
            assert getattr(last, field) in (None, getattr(wanted, field))


@pytest.mark.parametrize("name", ["tilt.com", "newst.com"])
def test_command_files_that_lose_a_line_lose_its_value_alone(tmp_path, name):
    read, text = FILES[name]
    whole, lines = answer(read, tmp_path / name, text.encode()), text.split("\n")
    for i in range(len(lines)):
        found = answer(read, tmp_path / name, "\n".join(lines[:i] + lines[i + 1 :]).encode())
        if found is None:
            continue
        different = [
            f for f in found.__dataclass_fields__ if getattr(found, f) != getattr(whole, f)
        ]
        assert len(different) <= 2, (lines[i], different)  # OFFSET and SHIFT have two values


@ALMOST
@given(st.integers(0, 10**9))
def test_damaged_lists_of_views_are_sorted_lists_or_refused(seed):
    text = mutated(b"1,7,33-35, 40 - 38 2", seed).decode("utf-8", "replace")
    views, refusal = outcome(parse_views, text, "--exclude", 60)
    if refusal is not None:
        assert refusal.why
        return
    assert list(views) == sorted({*views})
    assert 1 <= views[0] <= views[-1] <= 60
