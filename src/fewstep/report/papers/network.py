"""Which runs are of the network that a block of a paper's table is of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewstep.discovery import find
from fewstep.process import Process
from fewstep.report.runs import MeasuredRun


@dataclass(frozen=True)
class Network:
    """The network that figures are of, as runs are told apart.

    Attributes:
        dataset: the dataset's name; no other dataset's runs are of this network.
        process: the definition of the process; without T of any T.
        loss: the name of the training loss.
        variances: the variance kinds that the figures may be of.
        command: the settings that make the rows, after `fewstep`.
    """

    dataset: str
    process: Mapping[str, Any]
    loss: str
    variances: Sequence[str]
    command: str

    def is_of(self, run: MeasuredRun) -> bool:
        """Whether a run is of this network, however it was trained."""
        return (
            {row.dataset for row in run.rows if row.dataset is not None} == {self.dataset}
            and _target(run.training["pretrain"]["loss"]) == _path(find("losses", self.loss))
            and self._is_process(run.training["model"].get("process"))
        )

    def _is_process(self, settings: Any) -> bool:
        """Whether a section of the configuration describes the process, however it is said."""
        if not isinstance(settings, Mapping) or _target(settings) != f"{_path(Process)}.{self.process['name']}":
            return False
        given = {key: value for key, value in settings.items() if key != "_target_"}
        measured = Process.from_definition({"name": self.process["name"], **given})
        return measured == Process.from_definition({"T": measured.T, **self.process})


def _target(section: Mapping[str, Any]) -> str:
    return str(section["_target_"])


def _path(found: type[Any]) -> str:
    return f"{found.__module__}.{found.__qualname__}"
