"""Figures that were not measured here: a prototype's, for comparison of shape."""

from fewstep.report.tables import Cell, Table

STEPS = (4, 6, 8)
PROTOTYPE = {
    "even (on a cosine process)": (3.61, 1.98, 1.30),
    "tangent, c the data’s standard deviation": (5.94, 2.72, 1.88),
    "Karras, ρ = 7": (13.61, 5.85, 3.16),
    "discretization loss, p = 1": (9.05, 3.82, 2.40),
    "Gaussian transport": (3.98, 1.91, 1.39),
    "search of FID itself": (3.54, 1.72, 1.17),
}


def prototype_table() -> Table:
    """Nothing in it was measured by this program."""
    rows = [[Cell(name), *(Cell(f"{value:.2f}") for value in values)] for name, values in PROTOTYPE.items()]
    caption = (
        "**A prototype’s figures, not measured here**: digits, another network (0.7M parameters, 200 s of "
        "training), another classifier, DDIM over noise levels from 1/16 to 100; one training seed, 2,000 samples "
        "× 5 sampling seeds. For comparison of shape. The paper’s own figures (Huang 2024) are not public beyond "
        "its abstract."
    )
    return Table(caption, ["schedule", *(f"K = {K}" for K in STEPS)], rows)
