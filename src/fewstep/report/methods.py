"""The methods note: the protocol behind the numbers, as far as the results touch on it."""

import inspect
from collections.abc import Sequence
from typing import Any

from fewstep.discovery import named
from fewstep.report.printing import count, percent
from fewstep.report.rows import fid_metrics, likelihood_panels, of_metric, optimizers
from fewstep.results import Result

STEPS = (
    "A schedule of K steps is K + 1 times from clean data to pure noise. Its first node is the process’s last "
    "time T itself, its last step goes to time 0, and rules that space nodes by log-SNR or σ/α do so between "
    "half a grey level and the smaller of σ/α at T and 80. K steps are K network calls per image unless a "
    "column says otherwise. A log-SNR is log(α²/σ²) in nats."
)
SPLITS = (
    "The train split fits weights, statistics, variances and the searched schedules; validation stops and "
    "selects; test only reports."
)
LIKELIHOOD = (
    "Bits/dim are the negative ELBO (prior, one KL term per step, decoder) in nats per image divided by D ln 2, "
    "D the number of pixels times channels. The variance kinds are those of the reverse step: posterior and beta "
    "are fixed by the process, optimal is fitted on the train split. The full grid takes every timestep. The "
    "additive decoder reads x_0 from x_t, t the lowest node, with the variance that the process has added by t, "
    "or for optimal that of the network’s error. At the grid’s first timestep posterior and beta take the "
    "smaller σ̃²(1, 2), as Ho et al. 2020 clip it; where the network’s error is larger than that, this costs "
    "much, so that the full grid, and any rule that visits the first timestep, can cost more than few steps. A "
    "standard error is that of the mean over images, from each image’s own total; with several training seeds "
    "their spread is added. Rows share their images and noise, so a difference between two rows is known better "
    "than the two standard errors, combined as if independent, suggest."
)
FRECHET = (
    "Every row starts from the same noise: image i has the same noise for a given sampling seed whatever the "
    "schedule, so rows are paired by seed. The standard error of one run is a jackknife over its samples. A claim "
    "that one row beats another needs 5 paired seeds here. The floor compares real test images with the reference "
    "split; a Fréchet distance falls with the number of images, so the floor is no bound and distances at "
    "different numbers of images are not comparable."
)
FINETUNING = (
    "The pre-training loss continued on the schedule’s timesteps alone, stopped on validation, the best weights "
    "kept. The denoising error is the mean squared error per dimension with that loss’s weights; at the chosen "
    "timesteps a mean in which each counts as often as it is drawn."
)
ROUNDS = (
    "Search and fine-tuning in turn, a reconstruction of Huang 2024: round r searches the schedule of the weights "
    "that round r − 1 left and fine-tunes them on it, and both lower the objective’s value. The best round, by "
    "all validation images with one noise each, is kept. A model of N rounds may train as many iterations as one "
    "that is tuned once, an N-th of them in each round. It has a schedule of its own; before and after compare it "
    "with the untuned model on the untuned model’s schedule."
)


def methods(rows: Sequence[Result]) -> list[tuple[str, str]]:
    """Terms and their explanations; those alone that the results touch on."""
    notes = [("Steps and ends", STEPS)]
    described = [explanation for name in optimizers(rows) if (explanation := _explained(name))]
    if described:
        notes.append(("Schedule optimizers", " ".join(described)))
    notes.append(("Splits", SPLITS))
    if likelihood_panels(rows):
        notes.append(("Likelihood", LIKELIHOOD))
    metrics = fid_metrics(rows)
    if metrics:
        accuracy = of_metric(rows, "feature_accuracy")
        judge = ""
        if accuracy:
            on = f" ({count(sorted(accuracy.n_images))} images)" if accuracy.n_images else ""
            judge = f" The feature network’s classifier is right on {percent(accuracy)} of test images{on}."
        notes.append((f"Fréchet distance ({', '.join(metrics)})", FRECHET + judge))
    if any(row.finetuned for row in rows):
        notes.append(("Fine-tuning", FINETUNING))
    if any(row.metric == "kept_round" for row in rows):
        notes.append(("Search and fine-tuning in turn", ROUNDS))
    return notes


def _explained(optimizer: str) -> str:
    """A schedule optimizer in the words of its objective's and its search's files; "" for one without files."""
    searches, objectives = named("search"), named("objectives")
    if optimizer in searches:
        return f"{optimizer}: {_summary(searches[optimizer])}"
    for name, objective in objectives.items():
        search = searches.get(optimizer.removeprefix(f"{name}_"))
        if search is not None:
            linearised = "of the objective linearised around one path after another, " * objective.linearised
            return f"{optimizer}: {_summary(objective)} Minimised by {search.name}, {linearised}{_summary(search)}"
    return ""


def _summary(method: type[Any]) -> str:
    """The first paragraph of a docstring, without the method's name before it."""
    paragraph = (inspect.getdoc(method) or "").partition("\n\n")[0]
    return " ".join(paragraph.replace("`", "").removeprefix(f"{method.name}: ").split())
