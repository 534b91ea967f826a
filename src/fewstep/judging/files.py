"""The files with which a decoder's convention judges a model."""

from dataclasses import dataclass, replace
from pathlib import Path

from fewstep.artefacts.statistics import load_statistics
from fewstep.decoders import DECODERS
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.tanh_decoder import TanhDecoder


@dataclass(frozen=True)
class JudgingFiles:
    """Statistics of the split that judges.

    Attributes:
        statistics: of the kind that the decoder needs.
        tanh: the first step's terms at the judged schedules, for `improved_diffusion_tanh`.
    """

    statistics: Path
    tanh: Path | None = None

    def inputs(self, name: str) -> dict[str, Path]:
        """The files by what a run calls them, which `name` begins."""
        first_steps = {} if self.tanh is None else {f"{name}, first steps": self.tanh}
        return {name: self.statistics, **first_steps}

    def load(self, decoder: str) -> DenoisingError:
        """What the decoder judges with."""
        statistics: DenoisingError = load_statistics(DECODERS[decoder].statistics)(self.statistics)
        return statistics if self.tanh is None else replace(statistics, tanh=TanhDecoder.load(self.tanh))
