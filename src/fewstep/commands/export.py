"""`fewstep export`: a schedule file as other software takes it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fewstep.errors import UserError
from fewstep.exports import comfyui, diffusers, k_diffusion
from fewstep.files import write_atomically
from fewstep.schedule import Schedule

DESCRIPTION = """\
Write a schedule as other software takes it.

  --to diffusers    JSON: the arguments of a scheduler's set_timesteps, and how it must be configured:
                        export = json.load(open("euler.json"))
                        scheduler = EulerDiscreteScheduler.from_config(scheduler.config, **export["config"])
                        scheduler.set_timesteps(**export["set_timesteps"])
  --to k-diffusion  JSON: the list of sigmas, ending in 0:
                        sigmas = torch.tensor(json.load(open("sigmas.json")))
                        sample_euler(model, torch.randn(shape) * sigmas[0], sigmas)
  --to comfyui      text: the sigmas, for the node ManualSigmas and through it SamplerCustom
"""
EXAMPLES = """\
examples:
  fewstep export elbo_dp_k008.json --to diffusers --scheduler EulerDiscreteScheduler --output euler.json
  fewstep export elbo_dp_k008.json --to comfyui
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; `{self.prog} --help` explains.")


def main(words: Sequence[str]) -> None:
    """Print the export, or write it where --output says.

    Raises:
        UserError: the words, the file or what is asked of it cannot be used.
    """
    parser = _Parser(
        "fewstep export",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("schedule", type=Path, help="the schedule's file")
    parser.add_argument(
        "--to", required=True, choices=["diffusers", "k-diffusion", "comfyui"], help="the software"
    )
    parser.add_argument("--scheduler", metavar="CLASS", help=f"of diffusers: {', '.join(diffusers.EXPORTS)}")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where it goes; without it, to the terminal")
    chosen = parser.parse_args(words)
    exported = _exported(Schedule.load(chosen.schedule), chosen.to, chosen.scheduler)
    if chosen.output is None:
        print(exported)
        return
    try:
        write_atomically(chosen.output, f"{exported}\n")
    except OSError as error:
        raise UserError(f"The file {chosen.output} cannot be written: {error.strerror or error}.") from None


def _exported(schedule: Schedule, software: str, scheduler: str | None) -> str:
    if software == "diffusers":
        if scheduler is None:
            raise UserError(f"Name the scheduler of diffusers: --scheduler with {', '.join(diffusers.EXPORTS)}.")
        return json.dumps(diffusers.export(schedule, scheduler).content(), indent=2, ensure_ascii=False)
    if scheduler is not None:
        raise UserError(f"A scheduler is diffusers' own: leave out --scheduler {scheduler} with --to {software}.")
    return k_diffusion.export(schedule) if software == "k-diffusion" else comfyui.export(schedule)
