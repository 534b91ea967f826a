"""The page's sections on statistics and on fine-tuning, its header and its tables."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fewstep.errors import UserError
from fewstep.report.study import write_study
from fewstep.report.study.page import blocks
from fewstep.report.study.parts import PARTS, Study
from fewstep.results import Result, write_results

Parts = dict[str, list[Result]]
StudyOf = Callable[[Parts], Study]
Section = Callable[[Parts, str], str]
DP = {"metric": "bits_per_dim", "schedule_optimizer": "elbo_dp"}


def test_the_study_knows_every_part_of_its_experiment() -> None:
    conf = Path(__file__).parents[3] / "conf" / "experiment" / "digits_full.yaml"
    parts = OmegaConf.load(conf).hydra.sweeper.params.part.split(",")
    assert {part.strip() for part in parts} == set(PARTS)


def test_fresh_noise_costs_or_does_not(parts: Parts, section: Section, changed: Callable) -> None:
    text = section(parts, "Fresh noise")
    assert "Fresh noise costs bits: higher in 18 of 18 cases, +0.020 bits/dim on average." in text
    assert "With 32 images fresh noise changes bits/dim by +0.020 on average" in text
    assert "more than 0.01 in 6. Under optimal" in text
    harmless = section(changed(parts, -0.1, "fresh", **DP), "Fresh noise")
    assert "That fresh noise costs bits is not shown here: higher in 0 of 18 cases, −0.080" in harmless


def test_fresh_noise_without_its_counterpart(parts: Parts, section: Section) -> None:
    text = section({"fresh_0032": parts["fresh_0032"]}, "Fresh noise")
    assert "images_0032 not run" in text
    assert "Not measured" in text


def test_few_timesteps(parts: Parts, section: Section, changed: Callable) -> None:
    text = section(parts, "Few timesteps")
    assert "0.001 over variances and K, at most the 0.01 that it may cost" in text
    assert "Timesteps measured behind the search: 47 of the grid’s 1,000, on 128 images." in text
    assert "6,000 instead of 128,000, 21.3 times fewer; the aim of 20 times fewer is kept" in text
    assert "loses" not in text
    assert "paths lose is 0.009 bits/dim" in text
    dear = changed(changed(parts, 0.05, "auto", **DP), 6_000.0, "auto", metric="statistics_calls")
    text = section(dear, "Few timesteps")
    assert "more than the 0.01" in text
    assert "10.7 times fewer" in text
    assert "missed" in text


def test_images_under_optimal_variance_fit_the_variances_too(
    parts: Parts, section: Section, changed: Callable
) -> None:
    of = {"metric": "bits_per_dim", "schedule_optimizer": "full", "variance": "optimal"}
    text = section(changed(parts, 0.03, "images_0008", **of), "Images behind")
    assert "| optimal | 8 | +0.050 | +0.050 | +0.050 | +0.030 |" in text
    assert "| posterior | 8 | +0.050 | +0.050 | +0.050 | 0.000 |" in text
    assert "| posterior | 1024: bits/dim | 2.800 ± 0.020 |" in text


def test_fine_tuning_improves_or_does_not(parts: Parts, section: Section, changed: Callable) -> None:
    text = section(parts, "Fine-tuning")
    improves = "improves by more than twice its standard error"
    better = "in 1: elbo_dp at K = 4 (bits/dim, optimal, −0.030 ± 0.010)"
    assert f"Test bits/dim: of 2 comparisons, tuned minus untuned, it {improves} {better}" in text
    assert "in 1: even at K = 4 (fid_digits, ddim, −0.50 ± 0.00)" in text
    assert "| elbo_dp at K = 4 | **−0.030 ± 0.010** |" in text
    none = changed(parts, 0.02, "finetune", metric="bits_per_dim_change", schedule_optimizer="elbo_dp")
    none = changed(none, 0.501, "finetune", metric="fid_digits", schedule_optimizer="even", finetuned=True)
    text = section(none, "Fine-tuning")
    assert text.count("it improves by more than twice its standard error in none") == 2
    worse = changed(parts, 0.06, "finetune", metric="bits_per_dim_change", schedule_optimizer="elbo_dp")
    assert "it worsens by more than twice its standard error in 1: elbo_dp" in section(worse, "Fine-tuning")


def test_tuned_distances_of_few_seeds_are_no_claim(parts: Parts, section: Section) -> None:
    parts["finetune"] = [row for row in parts["finetune"] if row.sample_seed in (None, 0, 1)]
    text = section(parts, "Fine-tuning")
    assert "A claim needs 5 paired seeds; here are at most 2." in text
    assert "it improves by more than twice its standard error in none" in text.partition("The Fréchet distance")[2]


def test_unhealthy_networks_are_named(parts: Parts, study_of: StudyOf, changed: Callable) -> None:
    assert "Warning" not in " ".join(blocks(study_of(parts)))
    ill = " ".join(blocks(study_of(changed(parts, 0.2, "linear_vlb", metric="wiener_ratio_max"))))
    assert "**Warning.** linear_vlb (1.13): somewhere the network is worse than a linear filter." in ill
    assert "1.13 ± 0.01 **fails**" in ill


def test_the_header_says_what_was_run(parts: Parts, section: Section) -> None:
    text = section(parts, "The whole study").partition("\n## ")[0]
    assert "`fewstep experiment=digits_full`" in text
    assert "Parts not run" not in text
    assert "Samples: 2,000 for every Fréchet distance and seed, sampling seeds 0, 1, 2, 3, 4" in text
    assert "98.0 ± 1.0 % of 360 test images" in text
    assert "Wall time: 21.1 minutes in all" in text  # ablations share cosine_simple’s training
    few = section({"auto": parts["auto"]}, "The whole study").partition("\n## ")[0]
    assert "Parts run: auto." in few
    assert "Parts not run: cosine_simple, linear_simple," in few
    assert "No part has samples" in few


def test_distances_with_their_errors_over_seeds_and_the_floor(parts: Parts, section: Section) -> None:
    text = section({"cosine_simple": parts["cosine_simple"]}, "Fréchet distances")
    assert "2,000 samples a row and seed, mean over 5 seeds" in text
    assert "| quadratic | **1.75 ± 0.01** | **1.38 ± 0.01** |" in text
    assert "| floor: 360 real images | 0.90 ± 0.05 | 0.90 ± 0.05 |" in text


def test_steps_within(parts: Parts, section: Section) -> None:
    text = section(parts, "How many steps")
    assert "on the 128 images behind the search" in text
    assert "| cosine_hybrid | learned | 23 |" in text


@pytest.mark.parametrize("name", PARTS)
def test_any_single_part_makes_a_page(name: str, parts: Parts, tmp_path: Path) -> None:
    write_results(tmp_path / name / "results.csv", parts[name])
    write_study(tmp_path / "page.md", {name: tmp_path / name})
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == 6
    assert "nan" not in page
    assert "None" not in page
    widths = [line.count("|") - line.count("\\|") for line in page.splitlines() if line.startswith("|")]
    assert min(widths) >= 3


def test_a_paired_error_above_the_full_grid_sharpens_a_difference(parts: Parts, section: Section) -> None:
    at = {"metric": "bits_per_dim", "variance": "beta", "steps": 32, "finetuned": False}
    rows = parts["cosine_simple"]
    for row in [r for r in rows if all(getattr(r, k) == v for k, v in at.items())]:
        rows.append(replace(row, metric="bits_per_dim_above_full", value=0.0, standard_error=0.002))
    text = section({"cosine_simple": rows}, "32 steps stay")
    assert "| cosine_simple | **+0.062 ± 0.028** | **+0.062 ± 0.028** | **+0.062 ± 0.002** |" in text


def test_a_part_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results file"):
        write_study(tmp_path / "page.md", {"auto": tmp_path})
