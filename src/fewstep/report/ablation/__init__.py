"""The page that an ablation ends with: what a setting changes, and what each value of it costs."""

from fewstep.report.ablation.page import write_ablation

__all__ = ["write_ablation"]
