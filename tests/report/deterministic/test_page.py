"""Shares of the yardstick's gain, the aim, and what the page shows of every solver."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from fewstep.report.ddim.networks import group
from fewstep.report.deterministic.gains import shares
from fewstep.report.deterministic.page import blocks, of_solver, write_deterministic
from fewstep.results import Result, write_results

# Distances before noise: the yardstick wins 1 of even's 5, so a row at 4.1 wins nine tenths.
QUALITY = {
    "even": 5.0,
    "karras": 6.0,
    "tangent": 5.5,
    "local_error_dp": 5.2,
    "transport_dp": 4.1,
    "klub_dp": 4.6,
    "fid_coordinate": 4.0,
}
NOISE = (-0.02, 0.01, 0.0, 0.03, -0.02)
STEPS = (4, 8)


def network(process: str, seed: int, solver: str, quality: dict[str, float]) -> list[Result]:
    of = {"dataset": "digits", "process": process, "train_seed": seed, "finetuned": False}
    rows = []
    for name, mean in quality.items():
        rows.append(Result(**of, schedule_optimizer=name, metric="schedules_network_calls", value=1000.0))
        for K in STEPS:
            at = of | {"schedule_optimizer": name, "steps": K, "nfe": K, "solver": solver}
            for s, noise in enumerate(NOISE):
                kind = {"metric": "fid_digits", "sample_seed": s, "n_images": 2000}
                rows.append(Result(**at, **kind, value=(mean + noise) * 4 / K))
    return rows


def everything(quality: dict[str, float] = QUALITY, solvers: tuple[str, ...] = ("ddim",)) -> list[Result]:
    rows = [
        row
        for process in ("linear", "cosine")
        for seed in (0, 1)
        for solver in solvers
        for row in network(process, seed, solver, quality)
    ]
    return list(dict.fromkeys(rows))


def test_a_share_is_the_quotient_of_two_paired_gains() -> None:
    (linear, _) = group(everything())
    found = {share.name: share for share in shares(linear, 4)}
    assert found["transport_dp"].value == pytest.approx(0.9, rel=1e-12)
    assert found["klub_dp"].value == pytest.approx(0.4, rel=1e-12)
    assert found["karras"].value == pytest.approx(-1.0, rel=1e-12)
    assert found["transport_dp"].standard_error == pytest.approx(0, abs=1e-12)  # the noise is common to all rows
    assert found["transport_dp"].by_seed == pytest.approx({0: 0.9, 1: 0.9})


def test_the_jackknife_is_that_of_a_ratio_of_means() -> None:
    rows = everything()
    own = {0: 0.1, 1: -0.05, 2: 0.2, 3: 0.0, 4: 0.05}
    turned = [
        replace(row, value=row.value + own[row.sample_seed])
        if row.schedule_optimizer == "transport_dp" and row.sample_seed is not None
        else row
        for row in rows
    ]
    found = {share.name: share for share in shares(group(turned)[0], 4)}["transport_dp"]
    won = [0.9 - own[s] for s in range(5)]  # the yardstick's gain is 1 with every seed
    mean = sum(won) / 5
    assert found.value == pytest.approx(mean, rel=1e-12)
    standard_error = math.sqrt(sum((one - mean) ** 2 for one in won) / 4 / 5)
    assert found.standard_error == pytest.approx(standard_error, rel=1e-9)


def test_without_a_gain_beyond_its_interval_there_is_no_share() -> None:
    nothing_to_win = QUALITY | {"fid_coordinate": 5.0}
    assert list(shares(group(everything(nothing_to_win))[0], 4)) == []


def verdict(rows: list[Result]) -> str:
    page = "\n\n".join(blocks(group(rows), []))
    start = page.index("## Does one optimizer win everywhere?")
    return page[start : page.index("\n## ", start + 3)]


def test_the_aim_is_reached_by_who_wins_enough_everywhere_and_never_loses() -> None:
    said = verdict(everything())
    assert "**transport_dp reaches the aim.**" in said
    assert "| transport_dp | 4 of 4 | 90 ± 0 %" in said
    assert "| klub_dp | 0 of 4 | 40 ± 0 %" in said


def test_one_loss_to_a_fixed_rule_is_enough_to_miss_it() -> None:
    rows = [
        replace(row, value=row.value - 2)
        if (row.process, row.schedule_optimizer, row.steps) == ("cosine", "karras", 8)
        and row.metric == "fid_digits"
        else row
        for row in everything(QUALITY | {"karras": 5.9})
    ]
    said = verdict(rows)
    assert "**No optimizer reaches the aim.**" in said
    line = next(line for line in said.splitlines() if line.startswith("| transport_dp |"))
    assert [cell.strip() for cell in line.split("|")][-3:-1] == ["1", "4"]


def test_every_solver_has_its_own_tables(tmp_path: Path) -> None:
    rows = everything(solvers=("ddim",)) + [
        row
        for row in everything(QUALITY | {"transport_dp": 5.5}, solvers=("dpmpp_2m",))
        if row.metric == "fid_digits"
    ]
    networks = group(rows)
    assert of_solver(networks[0], "ddim").distances["transport_dp"][4].mean == pytest.approx(4.1)
    assert of_solver(networks[0], "dpmpp_2m").distances["transport_dp"][4].mean == pytest.approx(5.5)
    folders = {}
    for process in ("linear", "cosine"):
        folders[process] = tmp_path / process
        write_results(folders[process] / "results.csv", [row for row in rows if row.process == process])
    write_deterministic(tmp_path / "results.md", folders)
    page = (tmp_path / "results.md").read_text()
    for heading in ("## ddim, linear process", "## dpmpp_2m, cosine process"):
        assert heading in page
    under = page[page.index("## ddim, linear process") : page.index("## ddim, cosine process")]
    assert "**Minus local_error_dp**" in under
    assert "| transport_dp | 1,000 |" in under  # what its search cost
