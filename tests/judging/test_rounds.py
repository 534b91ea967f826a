"""The loss over phases: differences that pair images, a rise beyond its error, the best round."""

import pytest
import torch
from torch import Tensor

from fewstep.judging.rounds import FINETUNE, SEARCH, Phase, best_round, changes, phase_rows

LABELS = {"schedule_optimizer": "elbo_dp_rounds2", "steps": 4}


def of_losses(*losses: float) -> list[Phase]:
    """Phases of the given means, two a round, on eight images that differ by much more than the phases do."""
    images = torch.linspace(-50, 50, 8, dtype=torch.float64)
    names = [(number, name) for number in range(1, 9) for name in (SEARCH, FINETUNE)]
    return [Phase(*name, images + loss) for name, loss in zip(names, losses, strict=False)]


@pytest.mark.parametrize(
    "losses, kept",
    [
        ([9, 8, 7, 6], 2),
        ([9, 5, 4, 6], 1),  # the least loss, 4, is after a search: no weights were trained on that schedule
        ([9, 10, 9.5, 11], 0),
        ([9, 8, 8, 8], 1),  # of equals the one that took the least work
        ([9, 9], 0),
    ],
)
def test_the_best_round_is_that_of_the_least_loss_after_training(losses: list[float], kept: int) -> None:
    assert best_round(of_losses(*losses)) == kept


def test_changes_pair_images() -> None:
    noise = torch.tensor([0.5, -0.5] * 4, dtype=torch.float64)
    before, after = of_losses(9, 8)
    (change,) = changes([before, after._replace(values=after.values + noise)])
    assert change.value == pytest.approx(-1)
    assert change.standard_error == pytest.approx(noise.std().item() / 8**0.5)
    assert change.standard_error < before.values.std().item() / 8**0.5 / 10


@pytest.mark.parametrize("rise, rose", [(-1.0, False), (0.0, False), (0.1, False), (0.3, True)])
def test_a_loss_rose_where_its_change_is_above_its_standard_error(rise: float, rose: bool) -> None:
    noise = torch.tensor([0.5, -0.5] * 4, dtype=torch.float64)  # standard error of the mean 0.19
    before, after = of_losses(9, 9)
    (change,) = changes([before, after._replace(values=after.values + noise + rise)])
    assert change.rose is rose


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return pytest.approx(values.mean().item()), pytest.approx(values.std().item() / 8**0.5)


def test_rows_tell_the_loss_after_every_phase_and_its_change() -> None:
    phases = of_losses(9, 8, 7, 7.5)
    rows = {row.metric: row for row in phase_rows(LABELS, phases)}
    for phase in phases:
        row = rows[f"loss_after_{phase.label}"]
        assert (row.value, row.standard_error) == mean_and_error(phase.values)
        assert (row.n_images, row.split, row.schedule_optimizer) == (8, "validation", "elbo_dp_rounds2")
    assert [rows[f"loss_after_{phase.label}"].finetuned for phase in phases] == [False, True, True, True]
    found = [rows[f"loss_change_round{n}"].value for n in ("01_finetune", "02_search", "02_finetune")]
    assert found == pytest.approx([-1, -1, 0.5])
    assert (rows["kept_round"].value, rows["rounds_made"].value) == (2, 2)
    assert len(rows) == 4 + 3 + 2
