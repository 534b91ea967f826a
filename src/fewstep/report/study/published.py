"""The table of CIFAR-10 as Watson et al. 2021 published it, for comparison of shape."""

from fewstep.report.tables import Cell, Table

CIFAR10_STEPS = (8, 16, 32, 64, 128, 256)
CIFAR10 = {  # Watson et al. 2021 (ICLR 2022 submission), bits/dim at these K; of even stride's rows also all steps
    ("L_simple", "even"): (6.95, 6.15, 5.46, 4.91, 4.47, 4.14, 3.73),
    ("L_simple", "quadratic"): (5.39, 4.86, 4.52, 3.84, 3.74, 3.73),
    ("L_simple", "dynamic programming"): (4.59, 3.99, 3.79, 3.74, 3.73, 3.72),
    ("L_hybrid", "even"): (6.14, 5.39, 4.77, 4.29, 3.92, 3.66, 3.17),
    ("L_hybrid", "quadratic"): (4.91, 4.15, 3.71, 3.42, 3.30, 3.26),
    ("L_hybrid", "dynamic programming"): (4.33, 3.62, 3.39, 3.30, 3.27, 3.26),
    ("L_vlb", "even"): (6.20, 5.48, 4.89, 4.42, 4.03, 3.73, 2.94),
    ("L_vlb", "quadratic"): (4.89, 4.09, 3.58, 3.23, 3.09, 3.05),
    ("L_vlb", "dynamic programming"): (4.20, 3.41, 3.17, 3.08, 3.05, 3.04),
}


def published_table() -> Table:
    """Bits/dim on CIFAR-10 as published: nothing in it was measured here."""
    rows = [
        [Cell(loss), Cell(schedule), *(Cell(f"{bits:.2f}") for bits in figures)]
        for (loss, schedule), figures in CIFAR10.items()
    ]
    caption = (
        "**Published, CIFAR-10** (Watson et al. 2021, arXiv 2106.03802; not measured here): bits/dim, for "
        "comparison of shape. Published FIDs are of Inception features and 50,000 samples, and compare with "
        "nothing here."
    )
    return Table(
        caption, ["loss", "schedule", *(f"K = {K}" for K in CIFAR10_STEPS), "all steps"], rows, headings=2
    )
