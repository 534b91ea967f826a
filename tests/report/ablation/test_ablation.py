"""The pages of ablations hold the numbers of their parts, and say of them what the numbers say."""

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest

from fewstep.errors import UserError
from fewstep.report.ablation import write_ablation
from fewstep.report.ablation.estimator import losses
from fewstep.report.ablation.page import ABLATIONS
from fewstep.report.ablation.quantities import distances, likelihoods, objectives
from fewstep.report.ablation.seeds import pooled, spread
from fewstep.report.ablation.settings import read_settings
from fewstep.results import Result, write_results

OF = {"dataset": "digits", "process": "cosine"}
STEPS = (4, 8, 16)
Write = Callable[[str, list[Result]], None]


def measured(optimizer: str, factor: float, train_seed: int = 0, *, above: float = 0.5) -> list[Result]:
    """Distances `factor` times 40 / K², bits/dim above the full grid, and what the schedules cost."""
    of = OF | {"schedule_optimizer": optimizer, "train_seed": train_seed}
    rows = []
    for K in STEPS:
        kind = of | {"steps": K, "nfe": K, "finetuned": False}
        rows += [
            Result(**kind, metric="fid_digits", solver="ddim", sample_seed=seed, value=value, n_images=1000)
            for seed in range(5)
            for value in [factor * 40 / K**2 * (1 + 0.01 * seed)]
        ]
        images = kind | {"variance": "posterior", "decoder": "additive", "split": "test", "n_images": 360}
        rows += [
            Result(**images, metric="bits_per_dim", value=2 + above / K, standard_error=0.02),
            Result(**images, metric="objective_elbo", value=100 + 64 * above / K, standard_error=0.3),
            Result(**images, metric="bits_per_dim_above_full", value=above / K, standard_error=0.001),
        ]
    return [
        *rows,
        Result(**of, metric="schedules_network_calls", value=0.0 if optimizer == "even" else 128_000.0),
        Result(**of, metric="schedules_seconds", value=30.0),
    ]


@pytest.fixture
def reports(tmp_path: Path) -> dict[str, Path]:
    """Where parts are written."""
    return {}


@pytest.fixture
def write(tmp_path: Path, reports: dict[str, Path]) -> Write:
    """Writes the results of a part."""

    def make(part: str, rows: list[Result]) -> None:
        reports[part] = tmp_path / part
        reports[part].mkdir()
        write_results(reports[part] / "results.csv", rows)

    return make


def page_of(reports: dict[str, Path], tmp_path: Path) -> str:
    """The page as Markdown; its plots must be pictures, and the HTML must hold them."""
    write_ablation(tmp_path / "results.md", reports)
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    html = (tmp_path / "results.html").read_text(encoding="utf-8")
    plots = sorted(tmp_path.glob("*.png"))
    assert plots
    for plot in plots:
        assert f"]({plot.name})" in page
        assert matplotlib.image.imread(plot).std() > 0
    assert html.count("data:image/png;base64,") == len(plots)
    assert "http" not in html.replace("http-equiv", "")
    return page


def test_the_power_with_the_lowest_distance_is_named_and_what_does_not_vary_stands_once(
    write: Write, reports: dict[str, Path], tmp_path: Path
) -> None:
    for power, factor in (("2.0", 1.3), ("0.25", 0.9), ("1.0", 0.7)):
        write(f"power_{power}", [*measured("even", 1.0), *measured("discretization_dp", factor)])
    page = page_of(reports, tmp_path)
    assert "discretization_dp is lowest of 3 values at p = 1 for K = 4 (1.7" in page
    assert "; minus even stride −0.7" in page
    assert page.count("| even | every |") == 2  # distances and bits/dim
    order = [page.index(f"| discretization_dp | {p} |") for p in ("0.25", "1", "2")]
    assert order == sorted(order)


def test_the_cost_is_told_with_when_it_has_paid(write: Write, reports: dict[str, Path], tmp_path: Path) -> None:
    """A quarter of even stride's distance at K calls is even stride's own at 2 K on a curve 40 / K²."""
    write("power_1.0", [*measured("even", 1.0), *measured("discretization_dp", 0.25)])
    write("power_2.0", [*measured("even", 1.0), *measured("discretization_dp", 1.25)])
    page = page_of(reports, tmp_path)
    cost = page[page.index("## Cost") :]
    assert "| 1 | discretization_dp | 30.0 | 128,000 | 32,000 images (" in cost
    assert "not judged: even stride has no more calls" in cost
    assert "| 2 | discretization_dp | 30.0 | 128,000 | no: worse than even stride | no: worse" in cost


def test_processes_are_compared_with_even_stride_of_their_own(
    write: Write, reports: dict[str, Path], tmp_path: Path
) -> None:
    write("process_linear", [*measured("even", 3.0), *measured("elbo_dp", 1.5)])
    write("process_cosine", [*measured("even", 1.0), *measured("elbo_dp", 1.5)])
    page = page_of(reports, tmp_path)
    assert "linear process: of 3 searched rows against even stride, better elbo_dp at K = 4" in page
    assert "cosine process: of 3 searched rows against even stride, worse elbo_dp at K = 4" in page


def test_losses_are_differences_to_the_most_images(write: Write, reports: dict[str, Path], tmp_path: Path) -> None:
    for images, factor, above in ((8, 1.2, 0.6), (1024, 1.0, 0.5), (128, 1.0, 0.5)):
        write(f"images_{images}", [*measured("even", 2.0), *measured("elbo_dp", factor, above=above)])
    settings = read_settings(reports)
    assert [setting.value for setting in settings] == ["8", "128", "1024"]
    (fid,), (bits,) = distances(settings), likelihoods(settings)
    lost = losses(fid, settings)
    assert set(lost) == {("elbo_dp", K) for K in STEPS}
    assert lost["elbo_dp", 4]["8"].mean == pytest.approx(0.2 * 40 / 16 * 1.02)
    assert lost["elbo_dp", 4]["128"].mean == 0
    difference = losses(bits, settings)["elbo_dp", 4]["8"]
    assert difference.mean == pytest.approx(0.1 / 4)
    assert difference.error == pytest.approx(0.002)  # the sum of the two paired errors, below the unpaired 0.028
    (objective,) = objectives(settings)
    cost = losses(objective, settings)["elbo_dp", 4]["8"]
    assert cost.mean == pytest.approx(64 * 0.1 / 4)
    assert cost.error == pytest.approx(0.3 * 2**0.5)  # as if unpaired: nothing tells more
    page = page_of(reports, tmp_path)
    assert "elbo, the objective’s value of schedules found with n images minus those found with 1024" in page
    assert "from 128 images on none is beyond twice its standard error" in page


def test_training_seeds_are_told_by_their_spread(write: Write, reports: dict[str, Path], tmp_path: Path) -> None:
    factors = (0.8, 0.9, 1.0, 1.1, 1.2)
    for seed, factor in enumerate(factors):
        even, searched = measured("even", 1.0, seed), measured("elbo_dp", factor, seed)
        write(f"seed_{seed}", [*even, *searched])
    (fid,) = distances(read_settings(reports))
    values = [factor * 40 / 16 * 1.02 for factor in factors]
    found = pooled(fid, "elbo_dp", 4)
    assert found.mean == pytest.approx(sum(values) / 5)
    deviation = math.sqrt(sum((value - found.mean) ** 2 for value in values) / 4)
    assert spread(found) == pytest.approx(deviation)
    assert spread(pooled(fid, "even", 4)) == pytest.approx(0, abs=1e-12)
    page = page_of(reports, tmp_path)
    assert "mean over 5 training seeds ± standard deviation between them" in page


def tuned(iterations: int) -> list[Result]:
    """Tuning whose kept error falls with the iterations until 500, after which the last one over-fits."""
    of = OF | {"schedule_optimizer": "elbo_dp", "steps": 4, "train_seed": 0}
    kept, last = 0.05 - 0.00002 * min(iterations, 500), 0.05 - 0.00002 * iterations
    last = kept if iterations <= 500 else kept + 0.004
    images = {"n_images": 143, "split": "validation", "standard_error": 0.001}
    test = {"variance": "posterior", "decoder": "additive", "split": "test", "n_images": 360, "finetuned": True}
    return [
        Result(**of, **images, metric="validation_error_on_schedule", finetuned=False, value=0.05),
        Result(**of, **images, metric="validation_error_on_schedule", finetuned=True, value=kept),
        Result(**of, **images, metric="last_validation_error_on_schedule", finetuned=True, value=last),
        Result(**of, **images, metric="validation_change_on_schedule", finetuned=True, value=kept - 0.05),
        Result(
            **of, **images, metric="validation_change_after_best_on_schedule", finetuned=True, value=last - kept
        ),
        Result(**of, metric="best_iteration", finetuned=True, value=min(iterations, 500)),
        Result(**of, metric="last_iteration", finetuned=True, value=iterations),
        Result(**of, **test, metric="bits_per_dim", nfe=4, value=1.9, standard_error=0.02),
        Result(**of, **test, metric="bits_per_dim_change", nfe=4, value=-0.225, standard_error=0.003),
        *(
            Result(**of, metric="fid_digits", solver="ddim", nfe=4, finetuned=True, sample_seed=seed, value=2.0)
            for seed in range(5)
        ),
        Result(**of, metric="tuning_network_calls", finetuned=True, value=64.0 * iterations),
        Result(**of, metric="tuning_seconds", finetuned=True, value=0.05 * iterations),
    ]


def test_iterations_show_the_kept_model_and_the_last_one(
    write: Write, reports: dict[str, Path], tmp_path: Path
) -> None:
    for iterations in (500, 100, 2000):
        rows = [*measured("even", 1.0), *measured("elbo_dp", 1.2), *tuned(iterations)]
        write(f"iterations_{iterations}", rows)
    page = page_of(reports, tmp_path)
    assert "| 0 | 0 | 0.0500 ± 0.0010 | – |" in page
    assert "| 2000 | 500 | 0.0400 ± 0.0010 (−0.0100 ± 0.0010) | 0.0440 ± 0.0010 |" in page
    assert "1.900 ± 0.020 (−0.225 ± 0.003)" in page
    assert "lowest with 500 iterations, −20.0 %" in page
    assert "above the kept one’s by more than twice its error with 2000" in page
    cost = page[page.index("## Cost") :]
    assert "| 2000 | elbo_dp, K = 4, tuned | 130.0 | 256,000 |" in cost


def test_a_single_part_is_a_page_too(write: Write, reports: dict[str, Path], tmp_path: Path) -> None:
    for kind in ABLATIONS:
        reports.clear()
        write(f"{kind}_8", [*measured("even", 1.0), *measured("elbo_dp", 0.9), *tuned(500)])
        write_ablation(tmp_path / kind / "results.md", reports)
        assert (tmp_path / kind / "results.md").read_text(encoding="utf-8").startswith("# Ablation: ")


def test_parts_of_no_ablation_or_of_two_are_refused(
    write: Write, reports: dict[str, Path], tmp_path: Path
) -> None:
    write("power_1", measured("even", 1.0))
    write("seed_1", measured("even", 1.0))
    with pytest.raises(UserError, match="not of one ablation"):
        write_ablation(tmp_path / "results.md", reports)
    with pytest.raises(UserError, match="not of one ablation"):
        write_ablation(tmp_path / "results.md", {"cosine_simple": reports["power_1"]})


def test_a_setting_alone_is_said_to_be_compared_with_nothing(
    write: Write, reports: dict[str, Path], tmp_path: Path
) -> None:
    write("power_1.0", [*measured("even", 1.0), *measured("discretization_dp", 0.5)])
    page = page_of(reports, tmp_path)
    assert "Only power_1.0 was run, so that there is nothing to compare it with." in page
    write("power_2.0", [*measured("even", 1.0), *measured("discretization_dp", 0.6)])
    assert "nothing to compare" not in page_of(reports, tmp_path)
