"""The values of objectives on held-out images: what a search lowers, measured where it did not look."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.results import Result
from fewstep.schedule import Schedule

PREFIX = "objective_"


class Configured(NamedTuple):
    """An objective and the settings that it was built from."""

    objective: Objective
    settings: Mapping[str, Any]


def labelled(configured: Sequence[Configured]) -> dict[str, Configured]:
    """What rows call each distinct objective: its name, with the settings that tell it from a namesake, if any."""
    distinct: list[Configured] = []
    for one in configured:
        if all(one.settings != other.settings for other in distinct):
            distinct.append(one)
    return {_label(one, distinct): one for one in distinct}


def _label(one: Configured, distinct: Sequence[Configured]) -> str:
    namesakes = [other.settings for other in distinct if other.objective.name == one.objective.name]
    keys = dict.fromkeys(key for settings in namesakes for key in settings)
    telling = [key for key in keys if any(settings.get(key) != one.settings.get(key) for settings in namesakes)]
    told = ", ".join(f"{key}={_word(one.settings.get(key))}" for key in telling)
    return f"{one.objective.name}[{told}]" if told else one.objective.name


def _word(setting: Any) -> Any:
    """A setting as labels show it: of a section the class that it describes, such as a solver's."""
    return setting["_target_"].rpartition(".")[2] if isinstance(setting, Mapping) else setting


def objective_row(
    label: str,
    objective: Objective,
    statistics: Statistics,
    schedule: Schedule,
    labels: Mapping[str, Any],
    denoiser: Denoiser | None = None,
) -> Result:
    """`objective_<label>`: the value of a schedule on the statistics' images, in the objective's unit.

    Where the objective looks at every image by itself, the standard error over them is stated, and their number.

    Raises:
        UserError: the statistics are of the very split that the schedule was searched on.
    """
    measured = [statistics[kind] for kind in objective.needs]
    splits = [split for one in measured if (split := getattr(one, "split", None)) is not None]
    if schedule.provenance.get("split") in splits:
        raise UserError(
            f"A schedule searched on the split {splits[0]!r} cannot be judged on it too; set evaluation.split to "
            "another."
        )
    values = objective.image_values(statistics, schedule, denoiser)
    n_images = values.numel() if values.numel() > 1 else None
    return Result(
        **labels,
        metric=f"{PREFIX}{label}",
        value=values.mean().item(),
        standard_error=None if n_images is None else (values.std() / n_images**0.5).item(),
        steps=schedule.steps,
        variance=getattr(objective, "variance", None),
        decoder=getattr(objective, "decoder", None),
        n_images=n_images,
        split=next(iter(splits), None),
    )
