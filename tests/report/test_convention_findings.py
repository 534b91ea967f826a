"""How far the two arithmetics of improved-diffusion's convention lie apart, from rows made by hand."""

from fewstep.report.convention_findings import convention_findings
from fewstep.results import Result


def row(decoder: str, value: float, variance: str = "beta", steps: int = 4, finetuned: bool = False) -> Result:
    return Result(
        metric="bits_per_dim",
        value=value,
        schedule_optimizer="even",
        steps=steps,
        variance=variance,
        decoder=decoder,
        finetuned=finetuned,
        train_seed=0,
        split="test",
    )


def test_the_median_and_the_largest_difference_of_each_variance_kind() -> None:
    exact, tanh = "improved_diffusion", "improved_diffusion_tanh"
    rows = [
        *(row(exact, 3.0, steps=K) for K in (2, 4, 8)),
        row(exact, 3.0, finetuned=True),
        row(exact, 4.0, "learned"),
        row(tanh, 3.00012, steps=2),
        row(tanh, 3.00004, steps=4),
        row(tanh, 2.99990, steps=8),
        row(tanh, 2.99970, finetuned=True),
        row(tanh, 4.00001, "learned"),
        row(tanh, 9.0, "learned", steps=16),  # has no counterpart
        row("additive", 7.0),
    ]
    learned, beta = sorted(convention_findings(rows), key=len)
    assert "Under learned variance" in learned
    assert "a median of +0.00001 bits/dim over 1 schedule, at most by +0.00001 (even, K = 4)." in learned
    assert "Under beta variance" in beta
    assert "a median of −0.00003 bits/dim over 4 schedules, at most by −0.00030 (even, tuned, K = 4)." in beta


def test_one_convention_alone_is_no_comparison() -> None:
    assert convention_findings([row("improved_diffusion_tanh", 3.0), row("additive", 3.1)]) == []
