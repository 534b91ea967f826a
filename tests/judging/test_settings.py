"""What is measured: settings that cannot be measured are refused before any work."""

from typing import Any

import pytest

from fewstep.errors import UserError
from fewstep.judging.settings import Evaluation


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"split": "tset"}, "evaluation.split is 'tset'; allowed are train, validation, test"),
        ({"images": 1}, "at least 2 images; evaluation.images is 1"),
        ({"images": 0}, "at least 2 images; evaluation.images is 0"),
        ({"variances": []}, r"evaluation.variances is \[\], but must name at least one"),
        ({"variances": ["beta", "beta"]}, "each once"),
        ({"variances": ["gamma"]}, "'gamma'; allowed are posterior, beta, optimal"),
        ({"sample_seeds": []}, "evaluation.sample_seeds"),
        ({"sample_seeds": [1, 1]}, "each once"),
        ({"sample_seeds": [-1]}, "evaluation.sample_seeds is -1; allowed are whole numbers from 0"),
        ({"samples": 1}, "evaluation.samples must be at least 2"),
        ({"batch_size": 0}, "batch_size and pictured at least 1"),
        ({"pictured": 0}, "batch_size and pictured at least 1"),
        ({"compared": 1}, "evaluation.compared is 1; allowed are 2 to 1000"),
        ({"compared": 51, "samples": 50}, "evaluation.compared is 51; allowed are 2 to 50"),
        ({"sample_metrics": ["kod"]}, "no metric 'kod'; did you mean 'kid'"),
        ({"sample_metrics": ["kid", "kid"]}, "names each once"),
        ({"sample_metrics": ["kid"], "samples": 19}, "evaluation.samples is 19, but kid needs at least 20"),
        ({"fine_steps": 0}, "evaluation.fine_steps is 0, but must be at least 1"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Evaluation(**settings)


def test_settings_at_their_limits() -> None:
    smallest = Evaluation(images=2, samples=2, batch_size=1, pictured=1, sample_seeds=[0], variances=["beta"])
    assert (smallest.images, smallest.samples, smallest.batch_size, smallest.pictured) == (2, 2, 1, 1)
    assert Evaluation(images=None).images is None
    assert not Evaluation(compared=0).compared
    assert Evaluation(compared=1000).compared == 1000
