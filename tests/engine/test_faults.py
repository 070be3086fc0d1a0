"""The error policy: what follows from what, and that it ends."""

import itertools
from dataclasses import replace

import pytest

from ddgm_dist.engine.faults import Action, Fault, Limits, RetryHistory, decide

LIMITS = Limits(losses=3, tile_losses=2, attempts=2, rollbacks=2)
FRESH = RetryHistory()
SPENT = RetryHistory(losses=3, tile_losses=2, attempts=2, rollbacks=2, throttled=True, spilled=True)

# By fault: the first time, and when all limits are spent.
POLICY = {
    Fault.BUG: (Action.FAIL, Action.FAIL),
    Fault.INPUT: (Action.FAIL, Action.FAIL),
    Fault.START: (Action.FAIL, Action.FAIL),
    Fault.VERSIONS: (Action.FAIL, Action.FAIL),
    Fault.STORAGE: (Action.REDO, Action.FAIL),
    Fault.LOST: (Action.REPLACE, Action.FAIL),
    Fault.STALLED: (Action.REPLACE, Action.FAIL),
    Fault.PREEMPTED: (Action.REPLACE, Action.REPLACE),
    Fault.UNAVAILABLE: (Action.RESUBMIT, Action.FAIL),
    Fault.OBJECT_LOST: (Action.ROLL_BACK, Action.FAIL),
    Fault.STALE: (Action.ROLL_BACK, Action.FAIL),
    Fault.CHECKPOINT_DAMAGED: (Action.ROLL_BACK, Action.FAIL),
    Fault.OUT_OF_MEMORY: (Action.THROTTLE, Action.FAIL),
    Fault.STORE_FULL: (Action.SPILL, Action.FAIL),
}
# What alone makes a fault final.
SPENDS = {
    Fault.STORAGE: [RetryHistory(attempts=2)],
    Fault.LOST: [RetryHistory(losses=3), RetryHistory(tile_losses=2)],
    Fault.STALLED: [RetryHistory(losses=3), RetryHistory(tile_losses=2)],
    Fault.UNAVAILABLE: [
        RetryHistory(attempts=2, losses=3),
        RetryHistory(attempts=2, tile_losses=2),
    ],
    Fault.OBJECT_LOST: [RetryHistory(rollbacks=2)],
    Fault.STALE: [RetryHistory(rollbacks=2)],
    Fault.CHECKPOINT_DAMAGED: [RetryHistory(rollbacks=2)],
    Fault.OUT_OF_MEMORY: [RetryHistory(throttled=True)],
    Fault.STORE_FULL: [RetryHistory(spilled=True)],
}
FINAL = (Fault.BUG, Fault.INPUT, Fault.START, Fault.VERSIONS)
HISTORIES = [
    RetryHistory(losses, tile_losses, attempts, rollbacks, throttled, spilled)
    for losses, tile_losses, attempts, rollbacks, throttled, spilled in itertools.product(
        (0, 2, 3, 9), (0, 1, 2, 9), (0, 1, 2, 9), (0, 1, 2, 9), (False, True), (False, True)
    )
]


def test_the_policy_covers_every_fault() -> None:
    assert set(POLICY) == set(Fault)


@pytest.mark.parametrize("fault", Fault)
def test_policy(fault: Fault) -> None:
    first, last = POLICY[fault]
    assert decide(fault, FRESH, LIMITS).action is first
    assert decide(fault, SPENT, LIMITS).action is last


@pytest.mark.parametrize("fault", Fault)
def test_only_what_concerns_a_fault_makes_it_final(fault: Fault) -> None:
    first, _ = POLICY[fault]
    for history in HISTORIES:
        action = decide(fault, history, LIMITS).action
        spent = fault in FINAL or any(_reaches(history, limit) for limit in SPENDS.get(fault, []))
        if spent:
            assert action is Action.FAIL, history
        elif fault is Fault.UNAVAILABLE and history.attempts >= 2:
            assert action is Action.REPLACE, history  # asked in vain: taken for lost
        else:
            assert action is first, history


@pytest.mark.parametrize("fault", [Fault.START, Fault.VERSIONS])
def test_a_worker_that_is_unfit_is_refused_alone_once_another_was_fit(fault: Fault) -> None:
    for history in HISTORIES:
        assert decide(fault, replace(history, admitted=True), LIMITS).action is Action.REFUSE


def _reaches(history: RetryHistory, limit: RetryHistory) -> bool:
    return all(getattr(history, name) >= value for name, value in vars(limit).items())


@pytest.mark.parametrize("fault", [f for f in Fault if f not in FINAL and f is not Fault.PREEMPTED])
def test_giving_up_comes_with_advice(fault: Fault) -> None:
    assert decide(fault, SPENT, LIMITS).advice
    assert "run the same command again" in decide(fault, SPENT, LIMITS).advice


def test_pauses_are_short_and_grow() -> None:
    for fault, history in itertools.product(Fault, HISTORIES):
        decision = decide(fault, history, LIMITS)
        assert 0 <= decision.delay <= 15
        assert decision.delay == 0 or decision.action is not Action.FAIL
    for fault in (Fault.STORAGE, Fault.UNAVAILABLE):
        first, second = (decide(fault, RetryHistory(attempts=n), Limits()) for n in (0, 1))
        assert first.delay < second.delay


def after(history: RetryHistory, action: Action, fault: Fault) -> RetryHistory:
    """What the dispatcher counts when it has acted and nothing came of it."""
    loss = action in (Action.REPLACE, Action.THROTTLE) and fault is not Fault.PREEMPTED
    return RetryHistory(
        losses=history.losses + loss,
        tile_losses=history.tile_losses + loss,
        attempts=history.attempts + (action in (Action.REDO, Action.RESUBMIT)),
        rollbacks=history.rollbacks + (action is Action.ROLL_BACK),
        throttled=history.throttled or action is Action.THROTTLE,
        spilled=history.spilled or action is Action.SPILL,
    )


def test_any_sequence_of_faults_without_progress_ends() -> None:
    """Each step uses up something that only progress gives back. A node that is taken away as announced
    is the exception: markets may do so for ever, and a run is to bear it.
    """
    faults = [f for f in Fault if f is not Fault.PREEMPTED]
    # Each count only grows, so the longest way from here to the end is what is left of all of them.
    left: dict[RetryHistory, int] = {}

    def longest(history: RetryHistory) -> int:
        if history not in left:
            left[history] = -1  # on the way: to come back here would be a loop
            ways = [0]
            for fault in faults:
                decision = decide(fault, history, LIMITS)
                if decision.action is not Action.FAIL:
                    follows = after(history, decision.action, fault)
                    assert follows != history, (fault, history)
                    assert left.get(follows) != -1, (fault, history)
                    ways.append(1 + longest(follows))
            left[history] = max(ways)
        return left[history]

    assert longest(FRESH) <= 3 + 2 + 2 + 2 + 2


def test_a_worker_lost_by_one_tile_again_and_again_points_to_memory() -> None:
    advice = decide(Fault.LOST, RetryHistory(tile_losses=2), LIMITS).advice
    assert "more memory" in advice
    assert "memory" not in decide(Fault.LOST, RetryHistory(losses=3), LIMITS).advice
