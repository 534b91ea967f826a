import dataclasses
import math

import pytest
import torch

from fewstep.costs import CostTable
from fewstep.errors import UserError


def times(size: int = 4) -> torch.Tensor:
    return torch.linspace(0, 1, size, dtype=torch.float64)


def costs(size: int = 4) -> torch.Tensor:
    """costs[s, t] = 10 s + t, so that every step's cost tells which step it is."""
    index = torch.arange(size, dtype=torch.float64)
    table = 10 * index[:, None] + index
    return table.masked_fill(index[:, None] >= index, math.inf)


def test_total_sums_the_steps_of_a_path():
    table = CostTable(times(), costs(), "nats/example")
    assert table.total([0, 3]) == 3
    assert table.total([0, 1, 3]) == 1 + 13
    assert table.total((1, 2, 3)) == 12 + 23


def test_total_over_a_forbidden_step_is_infinite():
    edges = costs()
    edges[1, 2] = math.inf
    assert CostTable(times(), edges, "nats/example").total([0, 1, 2, 3]) == math.inf


def test_total_rounds_after_every_step():
    edges = torch.full((5, 5), math.inf, dtype=torch.float64)
    for s, cost in enumerate([1e16, 1.0, 1.0, -1e16]):
        edges[s, s + 1] = cost
    assert CostTable(times(5), edges, "nats/example").total(range(5)) == ((1e16 + 1.0) + 1.0) - 1e16 == 0.0


def test_costs_may_be_negative_and_forbidden():
    edges = -costs()
    edges[torch.isinf(edges)] = math.inf
    edges[0, 3] = math.inf
    assert CostTable(times(), edges, "nats/example").total([0, 1, 3]) == -14


def test_a_table_cannot_be_given_other_costs():
    table = CostTable(times(), costs(), "nats/example")
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.costs = costs()  # type: ignore[misc]


@pytest.mark.parametrize("s, t, cost", [(0, 2, math.nan), (2, 3, -math.inf), (3, 1, math.nan), (1, 1, -math.inf)])
def test_nan_and_minus_infinity_are_refused_anywhere(s, t, cost):
    edges = costs()
    edges[s, t] = cost
    with pytest.raises(UserError, match=rf"costs\[{s}, {t}\] is {cost}"):
        CostTable(times(), edges, "nats/example")


@pytest.mark.parametrize("s, t", [(0, 0), (3, 3), (2, 1), (3, 0)])
def test_a_step_that_does_not_ascend_has_no_cost(s, t):
    edges = costs()
    edges[s, t] = 0.5
    with pytest.raises(UserError, match=rf"costs\[{s}, {t}\] is 0.5; .* \+inf unless s < t"):
        CostTable(times(), edges, "nats/example")


def test_the_first_offender_is_named():
    edges = costs(300)
    edges[250, 7] = edges[130, 129] = edges[130, 40] = edges[290, 0] = 0.0
    with pytest.raises(UserError, match=r"costs\[130, 40\]"):
        CostTable(times(300), edges, "nats/example")
    edges[200, 299] = edges[140, 200] = edges[140, 190] = math.nan
    with pytest.raises(UserError, match=r"costs\[140, 190\]"):
        CostTable(times(300), edges, "nats/example")


@pytest.mark.parametrize(
    "edges, message",
    [
        (costs().float(), "costs is torch.float32"),
        (costs().numpy(), "costs is a ndarray"),
        (costs()[:, :3], r"costs has shape \[4, 3\]"),
        (costs()[0], r"costs has shape \[4\]"),
        (costs()[:1, :1], r"costs has shape \[1, 1\]"),
        (costs()[:0, :0], r"costs has shape \[0, 0\]"),
    ],
)
def test_costs_must_be_a_square_float64_table(edges, message):
    with pytest.raises(UserError, match=message):
        CostTable(times(), edges, "nats/example")


@pytest.mark.parametrize(
    "nodes, message",
    [
        ([0, 0.2, 0.2, 1], r"times\[1\] = 0.2 is followed by 0.2"),
        ([0, 0.5, 0.2, 1], r"times\[1\] = 0.5 is followed by 0.2"),
        ([0, 0.2, math.nan, 1], r"times\[2\] is nan"),
        ([0, 0.2, 0.5, math.inf], r"times\[3\] is inf"),
        ([0, 0.5, 1], r"times has shape \[3\]; costs of 4 rows need \[4\]"),
    ],
)
def test_times_must_ascend_and_fit_the_costs(nodes, message):
    with pytest.raises(UserError, match=message):
        CostTable(torch.tensor(nodes, dtype=torch.float64), costs(), "nats/example")


def test_times_must_be_float64():
    with pytest.raises(UserError, match=r"times is torch\.float32"):
        CostTable(times().float(), costs(), "nats/example")


def test_a_table_says_what_it_counts_in():
    with pytest.raises(UserError, match="unit is ''"):
        CostTable(times(), costs(), "")


@pytest.mark.parametrize(
    "path, message",
    [
        ([], "at least two"),
        ([0], "at least two"),
        ([0, 2, 1], "from index 2 to index 1"),
        ([0, 2, 2, 3], "from index 2 to index 2"),
        ([0, 4], r"index 4; the table's indices are 0 to 3"),
        ([-1, 3], "index -1"),
        ([0, 1.5, 3], "sequence of grid indices"),
        (3, "sequence of grid indices"),
    ],
)
def test_a_path_must_ascend_inside_the_table(path, message):
    with pytest.raises(UserError, match=message):
        CostTable(times(), costs(), "nats/example").total(path)


def first_pairs(size: int = 4) -> torch.Tensor:
    """first_pairs[n_1, n_2] = 100 n_1 + 1000 n_2."""
    index = torch.arange(size, dtype=torch.float64)
    pairs = 100 * index[:, None] + 1000 * index
    return pairs.masked_fill((index[:, None] >= index) | (index[:, None] == 0), math.inf)


def test_a_path_from_index_0_begins_with_its_first_pair():
    table = CostTable(times(), costs(), "nats/example", first_pairs())
    assert table.total([0, 1, 2, 3]) == 100 + 2000 + 23
    assert table.total([0, 2, 3]) == 200 + 3000
    assert table.total([1, 2, 3]) == 12 + 23
    assert table.total([1, 3]) == 13


def test_a_forbidden_first_pair_makes_the_total_infinite():
    pairs = first_pairs()
    pairs[1, 2] = math.inf
    assert CostTable(times(), costs(), "nats/example", pairs).total([0, 1, 2, 3]) == math.inf


def test_one_step_from_index_0_has_no_first_pair():
    with pytest.raises(UserError, match=r"path is \[0, 3\], but one step has no second node"):
        CostTable(times(), costs(), "nats/example", first_pairs()).total([0, 3])


@pytest.mark.parametrize(
    "n_1, n_2, cost, message",
    [
        (1, 2, math.nan, r"first_pairs\[1, 2\] is nan; a cost is finite"),
        (3, 0, -math.inf, r"first_pairs\[3, 0\] is -inf; a cost is finite"),
        (0, 2, 1.0, r"first_pairs\[0, 2\] is 1.0; .* \+inf unless 1 <= n_1 < n_2"),
        (2, 2, 1.0, r"first_pairs\[2, 2\] is 1.0; .* \+inf unless 1 <= n_1 < n_2"),
        (3, 1, 1.0, r"first_pairs\[3, 1\] is 1.0; .* \+inf unless 1 <= n_1 < n_2"),
    ],
)
def test_first_pairs_hold_pairs_alone(n_1, n_2, cost, message):
    pairs = first_pairs()
    pairs[n_1, n_2] = cost
    with pytest.raises(UserError, match=message):
        CostTable(times(), costs(), "nats/example", pairs)


@pytest.mark.parametrize(
    "pairs, message",
    [
        (first_pairs().float(), "first_pairs is torch.float32"),
        (first_pairs().numpy(), "first_pairs is a ndarray"),
        (first_pairs()[:, :3], r"first_pairs has shape \[4, 3\]; costs of 4 rows need \[4, 4\]"),
        (first_pairs(5), r"first_pairs has shape \[5, 5\]"),
    ],
)
def test_first_pairs_are_a_table_of_the_same_size(pairs, message):
    with pytest.raises(UserError, match=message):
        CostTable(times(), costs(), "nats/example", pairs)
