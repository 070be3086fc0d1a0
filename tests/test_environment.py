"""What `conftest.py` sets is set before it is read."""

import os

import torch


def test_torch_keeps_to_the_threads_that_are_asked_for() -> None:
    """Threads that wait for each other cost more than small tensors give back."""
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
