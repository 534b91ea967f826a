"""Whether bits/dim in the run's precision are those of float32."""

from collections.abc import Sequence

from fewstep.report.printing import count, number
from fewstep.report.rows import distinct, of_metric
from fewstep.results import Result

CHANGE = "bits_per_dim_change_in_"  # a metric begins so; the precision follows
ALLOWED = 0.01  # bits/dim


def precision_findings(rows: Sequence[Result]) -> list[str]:
    """A sentence for every precision below float32 that a network ran in."""
    sentences = []
    for metric in distinct(row.metric for row in rows if row.metric.startswith(CHANGE)):
        found = of_metric(rows, metric)
        assert found is not None
        worst = max(found.values.values(), key=abs)
        error = "" if found.standard_error is None else f" ± {number(found.standard_error, 4)}"
        timesteps = sorted({row.steps for row in rows if row.metric == metric and row.steps is not None})
        measured = (
            f"The network ran in {metric.removeprefix(CHANGE)}: on {count(sorted(found.n_images))} images at "
            f"{count(timesteps)} timesteps the bits/dim differ by {number(worst, 4)}{error} from those in "
            f"float32; the check allows {ALLOWED}"
        )
        if abs(worst) <= ALLOWED:
            sentences.append(f"{measured} and holds.")
        else:
            sentences.append(
                f"{measured} and fails: the likelihoods here are of the network in that precision; for those of "
                "the network itself set trainer.precision=32-true."
            )
    return sentences
