"""The order of the stages: what each one needs is made first, and what is complete is skipped."""

from fewstep.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
