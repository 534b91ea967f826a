"""What a model makes of noise in many steps, as an artefact: what few steps from the same noise aim at."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.artefacts.identity import Identity
from fewstep.artefacts.statistics import MakeTrainer
from fewstep.calls import Calls
from fewstep.data.base import Dataset
from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.modules.progress import Progress
from fewstep.modules.sampling import SampledBlocks
from fewstep.modules.sharing import predict_rows
from fewstep.process import Process
from fewstep.run import Run, check_output
from fewstep.sampling import sampling_calls
from fewstep.schedule import Schedule
from fewstep.search.base import distinct_indices
from fewstep.search.log_snr import LogSnr
from fewstep.solvers.ddim import Ddim
from fewstep.weights import MODEL, WEIGHTS, load_model

FILE = "samples.safetensors"


@dataclass(frozen=True)
class FineSteps:
    """How the outputs are made: DDIM over many steps of the `log_snr` rule.

    Attributes:
        steps: how many.
        samples: images 0 … samples − 1.
        seed: of their noise.
    """

    steps: int
    samples: int
    seed: int

    @property
    def calls(self) -> Calls:
        """The network calls that they take."""
        return sampling_calls(self.samples, Ddim().network_calls(self.steps))


def check_fine_steps(fine_steps: int, steps: int, process: Process) -> None:
    """Raise a UserError unless `fine_steps` is at least `steps`, the largest K, and the process has as many."""
    if not steps <= fine_steps <= process.T:
        raise UserError(
            f"evaluation.fine_steps is {fine_steps}; allowed are {steps}, the largest number of steps judged, to "
            f"{process.T}, the timesteps of the process (or evaluation.compared=null, for no comparison)."
        )


def fine_schedule(process: Process, levels: int, steps: int) -> Schedule:
    """The schedule of the `log_snr` rule, on data of some grey levels."""
    positions = LogSnr(levels).positions(process, steps)
    return Schedule.on_grid([0, *distinct_indices(positions, process.T)], process, {"search": LogSnr.name})


def fine_steps_identity(
    weights: Path, dataset: Dataset, settings: FineSteps, arithmetic: Mapping[str, Any]
) -> Identity:
    """What names the file that `fine_step_outputs_of` makes from the same arguments."""
    config = {
        "solver": Ddim.name,
        "rule": LogSnr.name,
        "fine_steps": settings.steps,
        "samples": settings.samples,
        "seed": settings.seed,
        "shape": list(dataset.shape),
        "levels": dataset.levels,
        "trainer": dict(arithmetic),
    }
    inputs = {"weights": weights / WEIGHTS, "model": weights / MODEL}
    return Identity(f"{Ddim.name}-{settings.steps}-seed{settings.seed}", config, inputs)


def fine_step_outputs_of(
    root: Path,
    weights: Path,
    dataset: Dataset,
    settings: FineSteps,
    arithmetic: Mapping[str, Any],
    trainer: MakeTrainer,
) -> Path:
    """The file of a model's fine-step outputs, made now unless it lies there already.

    Args:
        root: the folder of all such files.
        weights: the folder of the model.
        dataset: its shape and grey levels.
        settings: steps, images, seed.
        arithmetic: the trainer's settings that decide numbers, part of the artefact's name.
        trainer: makes the trainer that the network runs on.
    """
    identity = fine_steps_identity(weights, dataset, settings, arithmetic)
    folder = identity.folder(root)
    with Run(folder, identity.config, identity.inputs) as run:
        if not run.complete:
            denoiser = load_model(weights)
            schedule = fine_schedule(denoiser.process, dataset.levels, settings.steps)
            made = trainer(
                default_root_dir=folder,
                logger=False,
                enable_checkpointing=False,
                callbacks=[Progress(f"{settings.steps} steps")],
            )
            module = SampledBlocks(denoiser, Ddim(), schedule, settings.samples, settings.seed, dataset.shape)
            images = torch.cat(predict_rows(made, module, module.blocks))
            write_atomically(folder / FILE, lambda temporary: save_file({"images": images}, temporary))
            run.finish(
                network_calls=settings.calls.total,
                device=str(made.strategy.root_device),
                seed=settings.seed,
            )
    return folder / FILE


def load_fine_step_outputs(path: Path) -> Tensor:
    """Float64 [samples, C, H, W], neither clipped nor rounded.

    Raises:
        UserError: the file is missing, or is not the one that was made.
    """
    check_output(path)
    return load_file(path)["images"]
