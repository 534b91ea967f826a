"""Both choices of the statistics' timesteps beside each other; runs that jobs share, and networks."""

from collections.abc import Callable
from pathlib import Path

from fewstep.__main__ import build
from fewstep.config import Config
from fewstep.planning.ledger import Ledger
from fewstep.planning.networks import Networks
from fewstep.planning.plan import Plan

SEARCH = ["stage=search", "process.T=60", "schedule_optimizer=[even,elbo_dp]"]


def calls(ledger: Ledger, stage: str = "statistics, train") -> int:
    return sum(line.calls.total for line in ledger.lines.values() if line.stage == stage)


def test_auto_stands_beside_all_whichever_is_configured(configured: Callable[..., Config], tmp_path: Path) -> None:
    for configured_with, counted in (("all", 60 * 6), ("auto", 40 * 6)):
        plan = Plan(build)
        plan.add(configured(tmp_path, *SEARCH, f"statistics.timesteps={configured_with}"))
        assert calls(plan.configured) == counted
        assert {choice: calls(ledger) for choice, ledger in plan.by_timesteps.items()} == {
            "all": 60 * 6,
            "auto": 40 * 6,
        }
        assert plan.choices == {configured_with}


def test_a_choice_that_statistics_do_not_allow_is_not_made(
    configured: Callable[..., Config], tmp_path: Path
) -> None:
    plan = Plan(build)
    plan.add(configured(tmp_path, *SEARCH, "statistics.noise=fresh"))
    assert {calls(ledger) for ledger in plan.by_timesteps.values()} == {60 * 6}


def test_jobs_share_the_runs_that_have_the_same_folders(configured: Callable[..., Config], tmp_path: Path) -> None:
    plan = Plan(build)
    for seed in (0, 1):
        for images in (4, 6):
            plan.add(configured(tmp_path, *SEARCH, f"seed={seed}", f"statistics.images={images}"))
    assert calls(plan.configured, "pretrain") == 2 * 5 * 16
    assert calls(plan.configured) == 2 * 60 * (4 + 6)
    shared = {folder.parent.name for folder in plan.configured.shared}
    assert shared == {"pretrain", "search"}  # the rule `even` looks at no statistics
    assert len(plan.configured.shared) == 2 + 2


def test_a_network_is_measured_in_its_jobs_precision(configured: Callable[..., Config], tmp_path: Path) -> None:
    networks, shape = Networks(build), (1, 8, 8)
    full, half = (
        networks.of(configured(tmp_path, f"trainer.precision={name}"), shape) for name in ("32-true", "bf16-true")
    )
    assert half.weight_bytes == full.weight_bytes / 2
    assert half.forward.flops == full.forward.flops


def test_one_network_serves_jobs_that_differ_in_process_or_seed(
    configured: Callable[..., Config], tmp_path: Path
) -> None:
    networks, shape = Networks(build), (1, 8, 8)
    one = networks.of(configured(tmp_path), shape)
    assert networks.of(configured(tmp_path, "process=edm", "seed=3"), shape) is one
    assert networks.of(configured(tmp_path, "model.backbone.model_channels=4"), shape) is not one
    tuned = configured(tmp_path, "finetune=restricted", "trainable@finetune.trainable=low_rank").finetune
    assert tuned is not None
    low_rank = networks.of(configured(tmp_path), shape, tuned["trainable"])
    assert not low_rank.trains_all
    everything = configured(tmp_path, "finetune=restricted").finetune
    assert everything is not None
    assert networks.of(configured(tmp_path), shape, everything["trainable"]) is one
