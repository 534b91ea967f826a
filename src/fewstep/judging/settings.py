"""What is measured, and what it is measured with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytorch_lightning as pl
from torch import Tensor

from fewstep.artefacts.features import Features
from fewstep.data.base import check_split
from fewstep.decoders import DECODERS
from fewstep.discovery import find
from fewstep.errors import UserError
from fewstep.metrics.kept_features import KeptFeatures
from fewstep.noise import check_seed
from fewstep.sampling import ROWS
from fewstep.solvers.base import Solver
from fewstep.variance import VARIANCES


@dataclass(frozen=True)
class Evaluation:
    """What is measured.

    Attributes:
        split: the split whose images judge the likelihood; never the one behind the search.
        images: how many of them, from the first; None for all.
        variances: the variance kinds under which bits/dim are measured.
        decoders: the decoder's conventions under which they are.
        samples: images per Fréchet distance.
        sample_seeds: one Fréchet distance for each; the noise is the same in every row.
        sample_steps: solver → the K's that it samples at, as far as they are among the run's steps; a solver that
            is not named samples at all of these.
        batch_size: samples per block of work; no number depends on it.
        pictured: how many samples the pictures show.
        compared: how many of the first seed's samples are compared, image by image, with what `fine_steps` steps
            of the untuned model make of the same noise, where the solver adds none; None or 0 for none.
        fine_steps: of that, by DDIM on the `log_snr` rule; at least as many as the largest K.
        sample_metrics: what is measured of the samples besides the Fréchet distance, by the name of a class in
            fewstep.metrics: `kid`, `precision_recall`. The features of all samples are kept for it.
    """

    split: str = "test"
    images: int | None = None
    variances: Sequence[str] = ("posterior", "beta", "optimal")
    decoders: Sequence[str] = ("additive",)
    samples: int = 1000
    sample_seeds: Sequence[int] = (0, 1)
    sample_steps: Mapping[str, Sequence[int]] = field(default_factory=dict)
    batch_size: int = ROWS
    pictured: int = 10
    compared: int | None = None
    fine_steps: int = 160
    sample_metrics: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_split(self.split, "evaluation.split")
        for variance in self.variances:
            if variance not in VARIANCES:
                raise UserError(f"evaluation.variances holds {variance!r}; allowed are {', '.join(VARIANCES)}.")
        for decoder in self.decoders:
            if decoder not in DECODERS:
                raise UserError(f"evaluation.decoders holds {decoder!r}; allowed are {', '.join(DECODERS)}.")
        for seed in self.sample_seeds:
            check_seed(seed, "An entry of evaluation.sample_seeds")
        for name, entries in (
            ("variances", self.variances),
            ("decoders", self.decoders),
            ("sample_seeds", self.sample_seeds),
        ):
            if not entries or len(set(entries)) < len(entries):
                raise UserError(f"evaluation.{name} is {list(entries)}, but must name at least one, each once.")
        for name in self.sample_metrics:
            fewest = find("metrics", name).fewest
            if self.samples < fewest:
                raise UserError(f"evaluation.samples is {self.samples}, but {name} needs at least {fewest}.")
        if len(set(self.sample_metrics)) < len(self.sample_metrics):
            raise UserError(f"evaluation.sample_metrics is {list(self.sample_metrics)}, but names each once.")
        if self.images is not None and self.images < 2:
            raise UserError(f"A standard error needs at least 2 images; evaluation.images is {self.images}.")
        if self.samples < 2 or min(self.batch_size, self.pictured) < 1:
            raise UserError("evaluation.samples must be at least 2, batch_size and pictured at least 1.")
        if self.compared and not 2 <= self.compared <= self.samples:
            raise UserError(
                f"evaluation.compared is {self.compared}; allowed are 2 to {self.samples}, as evaluation.samples "
                "is, and null for no comparison with many steps."
            )
        if self.fine_steps < 1:
            raise UserError(f"evaluation.fine_steps is {self.fine_steps}, but must be at least 1.")

    def steps_of(self, solver: str, steps: Iterable[int]) -> list[int]:
        """Of some K's, those that a solver samples at."""
        wanted = self.sample_steps.get(solver)
        return [K for K in steps if wanted is None or K in wanted]


@dataclass(frozen=True)
class Judge:
    """What every subject is judged with.

    Attributes:
        settings: what is measured.
        solvers: name → solver.
        features: the extractor and the reference of the Fréchet distance.
        kept_features: [n, d] of real images, what other metrics of samples compare with; None without them.
        shape: (C, H, W).
        levels: grey levels.
        trainer: makes a trainer for sampling, given what stands before its progress bar.
    """

    settings: Evaluation
    solvers: Mapping[str, Solver]
    features: Features
    shape: tuple[int, int, int]
    levels: int
    trainer: Callable[[str], pl.Trainer]
    kept_features: Tensor | None = None

    def kept_metrics(self, n_images: int) -> list[KeptFeatures]:
        """The metrics besides the Fréchet distance, for so many images."""
        return [find("metrics", name)(self.kept_features, n_images) for name in self.settings.sample_metrics]
