"""The page that a study of many parts ends with: tables, and what the paper's findings come to."""

from fewstep.report.study.page import write_study

__all__ = ["write_study"]
