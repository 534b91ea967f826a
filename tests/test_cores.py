"""Pieces of work run one core each, in order, and torch's own threads are what they were."""

import threading

import pytest
import torch

from fewstep.cores import one_core_per_kernel, spread


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_cores")
def test_pieces_meet_each_one_with_one_core() -> None:
    """Two pieces that wait for each other both go on: they run at once."""
    meeting = threading.Barrier(2, timeout=20)

    def piece(number: int) -> tuple[int, int]:
        meeting.wait()
        return number, torch.get_num_threads()

    assert spread(piece, range(4)) == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_cores")
def test_an_error_leaves_torch_as_it_was() -> None:
    def piece(number: int) -> None:
        raise ZeroDivisionError(number)

    with pytest.raises(ZeroDivisionError):
        spread(piece, range(3))
    assert torch.get_num_threads() == 2
    with one_core_per_kernel() as cores:
        assert (cores, torch.get_num_threads()) == (2, 1)
    assert torch.get_num_threads() == 2
