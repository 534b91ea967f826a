"""The page of the deterministic sampler: few steps of DDIM on several processes, with several networks each."""

from fewstep.report.ddim.page import write_ddim

__all__ = ["write_ddim"]
