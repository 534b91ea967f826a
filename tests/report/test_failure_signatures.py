"""Signs of failure: each with its evidence where it shows, one sentence where none does."""

from fewstep.report.failure_signatures import failure_signatures
from fewstep.results import Result

OF = {"dataset": "digits", "process": "cosine", "train_seed": 0}
NAMES = ("even", "karras", "tangent", "elbo_dp", "discretization_dp")


def gap(value: float, error: float, steps: int = 8) -> Result:
    of = OF | {"schedule_optimizer": "discretization_gradient", "steps": steps, "n_images": 256}
    return Result(**of, metric="optimality_gap", value=value, standard_error=error)


def tuned(validation_change: float) -> list[Result]:
    """A model whose training error fell after its best validation."""
    of = OF | {"schedule_optimizer": "elbo_dp", "steps": 8, "finetuned": True}
    values = {
        "best_iteration": (150, None),
        "last_iteration": (500, None),
        "training_change_after_best_on_schedule": (-0.004, 0.001),
        "validation_change_after_best_on_schedule": (validation_change, 0.001),
        "training_error_on_schedule": (0.03, 0.001),
        "validation_error_on_schedule": (0.03, 0.001),
    }
    return [Result(**of, metric=m, value=value, standard_error=error) for m, (value, error) in values.items()]


def ranked(sign: int, seeds: int = 5) -> list[Result]:
    """Five schedules of K = 4 whose distance rises (or falls) with the objective, clearly beyond the seeds."""
    rows = []
    for place, name in enumerate(NAMES):
        of = OF | {"schedule_optimizer": name, "steps": 4, "finetuned": False}
        rows.append(Result(**of, metric="objective_elbo", variance="optimal", value=100.0 + place))
        for seed in range(seeds):
            value = 5 + sign * place + 0.01 * seed
            rows.append(Result(**of, metric="fid_digits", solver="ddim", nfe=4, sample_seed=seed, value=value))
    return rows


def test_where_nothing_was_measured_there_is_nothing_to_say() -> None:
    assert failure_signatures([]) == []
    assert failure_signatures(ranked(-1, seeds=2)) == []


def test_where_no_sign_shows_one_sentence_says_what_was_looked_for() -> None:
    assert failure_signatures([gap(0.02, 0.011), gap(0.009, 0.0001, 4), *tuned(0.0015), *ranked(1)]) == [
        "Looked for and not seen: over-fitting to the chosen timesteps (1 tuned model), a local minimum (2 "
        "gradient searches) and an objective that orders the schedules against quality (1 rank correlation with a "
        "distance, the lowest +1.00)."
    ]


def test_a_gap_above_one_per_cent_and_twice_its_error_is_a_local_minimum() -> None:
    (sentence,) = failure_signatures([gap(0.032, 0.004)])
    assert sentence == (
        "A local minimum: the schedule of discretization_gradient at K = 8 scores 3.2 ± 0.4 % above the best "
        "schedule on the grid by its own objective on the same 256 images and noises."
    )


def test_over_fitting_is_told_with_both_changes() -> None:
    (sentence,) = failure_signatures(tuned(0.005))
    assert sentence.startswith(
        "Over-fitting to the chosen timesteps: of the model tuned on the 8 timesteps of elbo_dp"
    )
    assert "−13.3 ± 3.3 % on training images and +16.7 ± 3.3 % on validation images" in sentence


def test_an_objective_against_the_distance_is_told_with_rho_its_interval_and_chance() -> None:
    (sentence,) = failure_signatures(ranked(-1))
    assert "elbo and fid_digits (ddim) order the schedules oppositely" in sentence
    assert "−1.00 (−1.00 to −1.00) at K = 4, 95 % over 5 paired seeds" in sentence
    assert "a random order of the 5 schedules is as extreme with probability 0.017" in sentence  # 2/120
