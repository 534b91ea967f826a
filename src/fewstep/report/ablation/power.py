"""The power p of the discretization loss: which one picks the best schedules."""

from collections.abc import Sequence

from fewstep.report.ablation.plot import Axis
from fewstep.report.ablation.quantities import quantities
from fewstep.report.ablation.settings import Setting, optimizers_of, plain
from fewstep.report.ablation.sweep import lowest_findings, sections
from fewstep.report.content import Content
from fewstep.report.rows import distinct

VARIED = "discretization"
ABOUT = (
    "The weights of the discretization loss, a reconstruction of Huang 2024, are σ_s^−p − σ_t^−p in noise levels "
    "σ/α: p = 1 is the bound on a first-order solver’s error, p = 2 the ELBO’s weight. Everything else is held: "
    "the network, its statistics, the solver and the noise. The other rows do not depend on p."
)


def power(settings: Sequence[Setting]) -> Content:
    """The page of `ablation_power`."""
    found = quantities(settings)
    axis = Axis("the power p (log scale)", {s.position: plain(s.value) for s in settings}, "log")
    varied = [name for name in distinct(optimizers_of(settings)) if name.startswith(VARIED)]
    findings = [
        sentence for quantity in found for name in varied for sentence in lowest_findings(quantity, name, label)
    ]
    return Content(
        "Ablation: the power of the discretization loss",
        ABOUT,
        findings,
        sections(settings, found, axis, "p", plain),
    )


def label(value: str) -> str:
    """`p = 0.5`."""
    return f"p = {plain(value)}"
