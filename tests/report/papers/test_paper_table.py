"""The papers' tables over runs in the pipeline's own format: which runs fill which cells, and what differs."""

import csv
import math
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from fewstep.discovery import named
from fewstep.report.papers.paper_table import DIFFERS, NOT_RUN, PaperTable
from fewstep.report.papers.published import published
from fewstep.stages.overview import Reporting, write_overview
from tests.report.written_runs import WrittenRuns, changed, composed

PAPERS = [name for name, found in named("report.overviews").items() if issubclass(found, PaperTable)]
OPTIMIZER = {"even": "even", "quadratic": "quadratic", "DP": "elbo_dp", "ET": "even", "OT": "elbo_dp"}
OPTIMIZER |= {"DP, MSE reweighting": "mse_reweighted_dp", "baseline: Karras, Euler": "karras"}
HYBRID = "experiment=watson_cifar10_hybrid model.path=cifar10_uncond_50M_500K.pt dataset.path=…"
SIMPLE = "experiment=watson_cifar10_simple model.path=… dataset.path=…"
ADDITIVE = {"evaluation.decoders": ["additive"]}
MEASURED = {
    f"here, {variance} variance, {decoder} decoder"
    for variance in ("posterior", "beta", "learned")
    for decoder in ("additive", "improved_diffusion")
}


def value(metric: str, optimizer: str, K: int, **of: Any) -> float:
    """Another number for everything, below 10, with two decimals."""
    return zlib.crc32(repr((metric, optimizer, K, sorted(of.items()))).encode()) % 1000 / 100


def lines(table: str, outputs: Path) -> list[dict[str, str]]:
    """The table's lines, from its CSV."""
    write_overview(outputs, Reporting(table), [])
    with (outputs / "report" / table / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cells(line: dict[str, str]) -> dict[int, str]:
    """K → cell, where there is something in it."""
    found = {re.fullmatch(r"(?:K = |all )([\d,]+)", name): text for name, text in line.items()}
    return {int(match[1].replace(",", "")): text for match, text in found.items() if match and text}


@pytest.mark.parametrize("table", PAPERS)
def test_without_runs_every_published_figure_stands_there_and_nothing_is_measured(
    table: str, tmp_path: Path
) -> None:
    found = lines(table, tmp_path)
    for name, block in published(table).blocks.items():
        of_block = [line for line in found if line["table"] == name]
        for row in block.figures:
            printed, here = (line for line in of_block if line["schedule"] == row)
            for K in block.steps:
                figure = block.figure(row, K)
                text, measured = cells(printed).get(K, ""), cells(here).get(K, "")
                assert float(text) == figure if isinstance(figure, float) else text == (figure or "")
                assert measured == ("" if figure is None else NOT_RUN)
            assert here[DIFFERS].startswith("fewstep experiment=")


@pytest.mark.parametrize("table", PAPERS)
def test_the_command_of_a_block_fills_its_rows_and_no_others(table: str, tmp_path: Path) -> None:
    overview = named("report.overviews")[table]
    for number, (name, network) in enumerate(overview.networks.items()):
        if name not in published(table).blocks:
            continue
        outputs = tmp_path / str(number)
        WrittenRuns(outputs, composed(network.command), value).write()
        for line in lines(table, outputs):
            if line["source"] != "published":
                of_block = line["table"] == name
                texts = [text for K, text in cells(line).items() if K in published(table).blocks[name].steps]
                assert (NOT_RUN in texts) != of_block, line
                assert line[DIFFERS].startswith(composed(network.command)["name"] if of_block else "fewstep "), (
                    line
                )


def test_each_cell_has_its_own_number(tmp_path: Path) -> None:
    """Dataset, K, schedule optimizer, solver, variance and decoder, against the numbers that were written."""
    for words in (SIMPLE, HYBRID):
        WrittenRuns(tmp_path, composed(words), value).write()
    bits = [line for line in lines("watson_bits_per_dim", tmp_path) if line["source"].startswith("here,")]
    kinds = {"CIFAR-10, L_simple": ("posterior", "beta"), "CIFAR-10, L_hybrid": ("learned",)}
    expected = {
        (block, row, f"here, {variance} variance, {decoder} decoder")
        for block, variances in kinds.items()
        for row in ("even", "quadratic", "DP")
        for variance in variances
        for decoder in ("additive", "improved_diffusion")
    }
    assert {(line["table"], line["schedule"], line["source"]) for line in bits} == expected
    for line in bits:
        _, variance, decoder = (word.split()[0] for word in line["source"].split(", "))
        for K, text in cells(line).items():
            name = "full" if K >= 1000 else OPTIMIZER[line["schedule"]]
            assert float(text) == value("bits_per_dim", name, K, variance=variance, decoder=decoder)
            assert line[f"K = {K} ±" if K < 1000 else f"all {K:,} ±"] == "0.004"
    for line in lines("watson_fid", tmp_path):
        if line["source"].startswith("here,") or (line["source"] == "here" and NOT_RUN not in line.values()):
            assert line["table"] == "CIFAR-10, L_simple"
            ddim = line["schedule"].endswith("DDIM")
            assert line["source"] == ("here" if ddim else "here, posterior variance")
            name = OPTIMIZER[line["schedule"].removesuffix(" DDIM").removesuffix(" DDPM")]
            solver = "ddim" if ddim else "ancestral"
            for K, text in cells(line).items():
                assert float(text) == value("fid_inception", name, K, solver=solver, seed=0)


OTHERS: dict[str, dict[str, Any]] = {
    "another dataset": {"dataset._target_": "fewstep.data.photos.Photos"},
    "another process": {"model.process._target_": "fewstep.process.Process.scaled_linear"},
    "another grid": {"model.process.T": 999},
    "another noise": {"model.process.smallest_noise_level": 0.01},
    "another loss": {"pretrain.loss._target_": "fewstep.losses.vlb.VlbLoss"},
    "other features": {"features._target_": "fewstep.artefacts.extractors.classifier.ClassifierExtractor"},
}


@pytest.mark.parametrize("other", OTHERS)
def test_runs_of_anything_else_never_enter(other: str, tmp_path: Path) -> None:
    WrittenRuns(tmp_path, changed(composed(SIMPLE), OTHERS[other]), value).write()
    for table in ("watson_bits_per_dim", "watson_fid"):
        entered = [line for line in lines(table, tmp_path) if line["source"].startswith("here,")]
        assert bool(entered) == (other == "other features" and table == "watson_bits_per_dim")


def test_a_sampler_with_noise_is_not_ddim(tmp_path: Path) -> None:
    config = composed(SIMPLE)
    WrittenRuns(tmp_path, changed(config, {"solver.ddim.eta": 0.5}), value).write()
    found = [line for line in lines("watson_fid", tmp_path) if line["schedule"].endswith("DDIM")]
    assert {line["source"] for line in found} == {"published", "here"}
    assert all(NOT_RUN in line.values() for line in found if line["source"] == "here")


def differs(outputs: Path, row: str = "DP") -> list[str]:
    """The last column of a row's measured lines on CIFAR-10, L_hybrid."""
    found = [line for line in lines("watson_bits_per_dim", outputs) if line["table"] == "CIFAR-10, L_hybrid"]
    return [line[DIFFERS] for line in found if line["schedule"] == row and line["source"].startswith("here,")]


def test_the_published_set_up_differs_in_nothing_but_where_it_ran(tmp_path: Path) -> None:
    WrittenRuns(tmp_path, composed(HYBRID), value, device="cuda:0").write()
    additive, improved = differs(tmp_path)
    assert additive == "watson_cifar10_hybrid; on cuda:0"
    assert improved == "watson_cifar10_hybrid; searched with the additive decoder; on cuda:0"
    assert differs(tmp_path, "even") == ["watson_cifar10_hybrid; on cuda:0"] * 2


def test_what_differs_is_read_from_the_runs(tmp_path: Path) -> None:
    settings = {
        "name": "mine",
        "pretrain.iterations": 500,
        "statistics.images": 1024,
        "statistics.timesteps": "auto",
        "evaluation.images": 256,
        "evaluation.decoders": ["additive"],
        "trainer.precision": "bf16-mixed",
        "dataset.validation": 5000,
    }
    WrittenRuns(tmp_path, changed(composed(HYBRID), settings), value).write()
    trained = "mine; cifar10_uncond_50M_500K.pt, trained on for 500 iterations of 128 images"
    ends = "256 test images; the network in bf16-mixed; on cpu"
    assert differs(tmp_path, "even") == [f"{trained}; {ends}"]
    searched = "statistics of 1,024 training images; statistics at few timesteps"
    assert differs(tmp_path) == [f"{trained}; {searched}; {ends}"]


def test_other_weights_and_held_out_images_are_told(tmp_path: Path) -> None:
    settings = ADDITIVE | {"model.path": "/somewhere/mine.pt", "dataset.validation": 5000}
    WrittenRuns(tmp_path, changed(composed(HYBRID), settings), value).write()
    held_out = "statistics of all but 5,000 training images"
    assert differs(tmp_path) == [f"watson_cifar10_hybrid; weights of mine.pt; {held_out}; on cpu"]


def test_seeds_are_pooled_and_set_ups_are_not(tmp_path: Path) -> None:
    """Two training seeds are one line, their mean with both errors; another number of images is another line."""
    brief = {"evaluation.images": 64, "name": "brief"}
    for settings, bits in (({}, 3.0), ({"seed": 1}, 3.2), (brief, 8.0)):
        config = changed(composed(HYBRID), ADDITIVE | settings)
        WrittenRuns(tmp_path, config, lambda *_, bits=bits, **of: bits).write("even")
    found = [
        line
        for line in lines("watson_bits_per_dim", tmp_path)
        if line["source"] in MEASURED and line["schedule"] == "even"
    ]
    assert sorted((float(line["K = 8"]), line[DIFFERS].split("; ")[0]) for line in found) == [
        (3.1, "watson_cifar10_hybrid"),
        (8.0, "brief"),
    ]
    pooled = next(line for line in found if line["K = 8"] == "3.100")
    assert float(pooled["K = 8 ±"]) == pytest.approx(math.hypot(0.004, 0.1), abs=5e-4)
    assert "mean of 2 training seeds" in pooled[DIFFERS]


def test_a_measurement_that_is_no_number_and_a_step_that_was_not_run_are_told_apart(tmp_path: Path) -> None:
    config = changed(composed(HYBRID), ADDITIVE | {"steps": [8, 16]})
    WrittenRuns(tmp_path, config, lambda m, name, K, **of: {8: math.nan, 16: math.inf}.get(K, 3.0)).write("even")
    found = [line for line in lines("watson_bits_per_dim", tmp_path) if line["source"] in MEASURED]
    (line,) = (line for line in found if line["schedule"] == "even")
    assert [line[f"K = {K}"] for K in (8, 16, 32)] == ["NaN", "∞", NOT_RUN]


def test_latex_and_markdown_have_the_cells_of_the_csv(tmp_path: Path) -> None:
    WrittenRuns(tmp_path, composed(HYBRID), value).write()
    from_csv = lines("watson_bits_per_dim", tmp_path)
    folder = tmp_path / "report" / "watson_bits_per_dim"
    tex, markdown = ((folder / f"watson_bits_per_dim.{suffix}").read_text() for suffix in ("tex", "md"))
    bodies = re.findall(r"\\midrule\n(.*?)\n\\bottomrule", tex, re.DOTALL)
    from_tex = [[cell.strip() for cell in row.split(" & ")] for body in bodies for row in body.split("\n")]
    from_markdown = [
        [cell.strip() for cell in row.strip("| ").split(" | ")]
        for row in markdown.splitlines()
        if re.match(r"\| (even|quadratic|DP) \|", row)
    ]
    assert len(from_tex) == len(from_markdown) == len(from_csv)
    for line, row, marked in zip(from_csv, from_tex, from_markdown, strict=True):
        assert row[0] == marked[0] == line["schedule"]
        of_csv = [(text, line.get(f"{name} ±", "")) for name, text in line.items() if name.startswith("K = 8")][:1]
        ((number, error),) = of_csv
        assert row[2] == (rf"{number} $\pm$ {error}" if error else number)
        assert marked[2] == (f"{number} ± {error}" if error else number)
    assert r"\usepackage{booktabs}" in tex
    assert not re.search(r"(?<!\\)[_%#&](?= ?[a-z])", "".join(row[-1] for row in from_tex))
