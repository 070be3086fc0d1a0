"""Functions that worker processes call."""

import os
import signal
import time

from ddgm_dist.errors import InputError


def after(common: str, item: tuple[int, float]) -> tuple[str, int]:
    time.sleep(item[1])
    return common, item[0]


def process(common: object, item: object) -> int:
    return os.getpid()


def process_then_wait(common: object, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def refuse_odd(name: str, item: int) -> int:
    if item % 2:
        raise InputError(name, item, "is odd")
    return item


def fail_privately(common: object, item: int) -> None:
    class Private(Exception):
        pass

    raise Private(item)


def die(number: signal.Signals, item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), number)
        time.sleep(30)
    return item


def leave(status: int, item: int) -> None:
    os._exit(status)
