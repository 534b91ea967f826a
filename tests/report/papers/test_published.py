"""The published figures: none mistyped (sums of rows, taken from the papers' tables), and what they are to do."""

import math

import pytest

from fewstep.report.papers.published import published

SUMS = {
    "watson_bits_per_dim": {
        "CIFAR-10, L_simple": (35.81, 26.08, 23.56),
        "CIFAR-10, L_vlb": (31.69, 21.93, 19.95),
        "CIFAR-10, L_hybrid": (31.34, 22.75, 21.17),
        "ImageNet 64×64, L_hybrid": (32.16, 23.58, 22.45),
    },
    "watson_fid": {
        "CIFAR-10, L_simple": (131.84, 108.70, 74.47, 49.25, 148.84, 116.73),
        "ImageNet 64×64, L_hybrid": (178.21, 390.20, 150.99, 387.60, 461.09, 346.35),
    },
    "analytic_dpm_bits_per_dim": {
        "CIFAR-10, linear": (35.61, 29.85, 28.78, 25.76),
        "CIFAR-10, cosine": (32.74, 28.04, 27.97, 24.73),
        "ImageNet 64×64": (31.52, 28.41, 27.20, 25.63),
    },
    "huang_fid": {"ImageNet 64×64": (305.27, None, None, None)},
}


@pytest.mark.parametrize("table", SUMS)
def test_rows_add_up_and_have_a_figure_for_every_column_and_a_source(table: str) -> None:
    paper = published(table)
    assert "arXiv 2" in paper.source
    sums = {
        name: tuple(
            None if isinstance(figures, str) else round(math.fsum(figure or 0 for figure in figures), 2)
            for figures in block.figures.values()
        )
        for name, block in paper.blocks.items()
    }
    assert sums == SUMS[table]
    for block in paper.blocks.values():
        assert list(block.steps) == sorted({*block.steps})
        assert {len(figures) for figures in block.figures.values() if not isinstance(figures, str)} == {
            len(block.steps)
        }


@pytest.mark.parametrize("table", ["watson_bits_per_dim", "analytic_dpm_bits_per_dim"])
def test_more_steps_never_cost_bits(table: str) -> None:
    for block in published(table).blocks.values():
        for figures in block.figures.values():
            known = [figure for figure in figures if figure is not None]
            assert known == sorted(known, reverse=True)


def test_dynamic_programming_is_never_above_a_fixed_stride_and_a_fitted_variance_never_above_beta() -> None:
    for block in published("watson_bits_per_dim").blocks.values():
        for K in block.steps[:-1]:
            assert block.figure("DP", K) <= block.figure("quadratic", K) <= block.figure("even", K)
    for block in published("analytic_dpm_bits_per_dim").blocks.values():
        for K in block.steps:
            for variance in ("beta", "optimal"):
                assert block.figure(f"OT, {variance}", K) <= block.figure(f"ET, {variance}", K)
            for trajectory in ("ET", "OT"):
                assert block.figure(f"{trajectory}, optimal", K) <= block.figure(f"{trajectory}, beta", K)


def test_what_a_paper_does_not_print_is_no_number() -> None:
    (huang,) = published("huang_fid").blocks.values()
    assert huang.figure("both phases in turn", 4) == "not public"
    assert published("watson_bits_per_dim").blocks["CIFAR-10, L_simple"].figure("DP", 1000) is None
