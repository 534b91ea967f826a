"""Splits are drawn once and for all, and share no image."""

import torch

from fewstep.data.splits import fixed_order


def test_the_order_is_a_permutation_and_never_another_one() -> None:
    assert fixed_order(12).tolist() == EXPECTED
    for n in (1, 2, 1000):
        assert torch.equal(fixed_order(n).sort().values, torch.arange(n))


EXPECTED = [0, 2, 11, 9, 1, 8, 5, 4, 3, 10, 6, 7]
