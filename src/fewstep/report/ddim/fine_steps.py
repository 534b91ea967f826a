"""How far few steps lead from what many make of the same noise, in the networks of one process."""

from fewstep.report.ddim.networks import Networks
from fewstep.report.fine_steps import METRICS, fine_step_table
from fewstep.report.markdown import markdown_table


def fine_step_tables(networks: Networks) -> list[str]:
    """A table for pixels and one for features."""
    solver = networks.panel.solver if networks.panel else None
    tables = [
        fine_step_table(metric, solver or "ddim", rows) for metric in METRICS if (rows := networks.of(metric))
    ]
    drawn = [markdown_table(table) for table in tables]
    return drawn or ["The distance to the fine-step output was not measured."]
