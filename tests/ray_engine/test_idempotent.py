"""A call that is asked for again is computed once, and a call that failed is not remembered."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddgm_dist.ray_engine.idempotent import IdempotentCalls


class Counted:
    """Gives how often it was computed, when it is let."""

    def __init__(self, *, fail: bool = False) -> None:
        self.count, self.fail = 0, fail
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self) -> int:
        self.count += 1
        self.begun.set()
        assert self.let.wait(300)
        if self.fail:
            raise OSError("planted")
        return self.count


@pytest.mark.parametrize("fail", [False, True])
def test_a_caller_waits_while_it_is_computed_and_gets_the_same(fail: bool) -> None:
    calls, work = IdempotentCalls(), Counted(fail=fail)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(calls, "tile", 1, work)]
        assert work.begun.wait(300)
        answers += [pool.submit(calls, "tile", 1, work) for _ in range(2)]
        work.let.set()
        if fail:
            assert all("planted" in str(answer.exception(10)) for answer in answers)
        else:
            assert [answer.result(10) for answer in answers] == [1, 1, 1]
    assert work.count == 1 or fail  # who comes after an error tries again


def test_an_answer_is_kept_until_the_tile_s_next_call() -> None:
    calls, work = IdempotentCalls(), Counted()
    work.let.set()
    assert [calls("a", 1, work), calls("b", 1, work), calls("a", 1, work)] == [1, 2, 1]
    assert [calls("a", 2, work), calls("a", 1, work)] == [3, 4]
    calls.forget("a")
    assert calls("a", 1, work) == 5


def test_an_error_is_not_kept() -> None:
    calls, work = IdempotentCalls(), Counted(fail=True)
    work.let.set()
    with pytest.raises(OSError, match="planted"):
        calls("a", 1, work)
    work.fail = False
    assert calls("a", 1, work) == 2


def test_few_answers_are_kept() -> None:
    calls, work = IdempotentCalls(kept=2), Counted()
    work.let.set()
    assert [calls(tile, 1, work) for tile in "abcba"] == [1, 2, 3, 2, 4]


def test_calls_of_other_tiles_do_not_wait() -> None:
    calls, slow, fast = IdempotentCalls(), Counted(), Counted()
    fast.let.set()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(calls, "a", 1, slow)
        assert slow.begun.wait(300)
        assert calls("b", 1, fast) == 1
        slow.let.set()
        assert answer.result(10) == 1
