"""The page holds the numbers of results.csv and nothing from outside."""

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fewstep.errors import UserError
from fewstep.report.page import write_report
from fewstep.results import Result, write_results

MakeRows = Callable[..., list[Result]]


class Tables(HTMLParser):
    """Every table of a page as (caption, rows of cell texts); the sections' headings; every attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[list[str]]]] = []
        self.headings: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self._caption = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append((self._caption, []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
        elif tag == "figcaption":
            self._caption = ""
        elif tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        text = data.replace("\u00a0", " ").replace("−", "-")
        if "td" in self._open or "th" in self._open:
            self.tables[-1][1][-1][-1] += text if self._open[-1] != "span" else f"|{text.strip()}"
        elif "figcaption" in self._open:
            self._caption += text
        elif "h2" in self._open:
            self.headings[-1] += text

    def table(self, caption: str) -> list[list[str]]:
        (found,) = [rows for text, rows in self.tables if caption in text]
        return [[cell.strip() for cell in row] for row in found]


@pytest.fixture
def report(tmp_path: Path) -> Callable[[list[Result]], Tables]:
    def write(rows: list[Result]) -> Tables:
        write_results(tmp_path / "results.csv", rows)
        write_report(tmp_path, "A title", {})
        return Tables((tmp_path / "report.html").read_text(encoding="utf-8"))

    return write


@pytest.fixture(scope="module")
def whole(synthetic_rows: MakeRows, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The page of a whole run."""
    folder = tmp_path_factory.mktemp("report")
    write_results(folder / "results.csv", synthetic_rows())
    write_report(folder, "A title", {})
    return Tables((folder / "report.html").read_text(encoding="utf-8"))


def one(rows: list[Result], **of: object) -> Result:
    (found,) = [row for row in rows if all(getattr(row, name) == value for name, value in of.items())]
    return found


def test_every_likelihood_cell_is_the_files(whole: Tables, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    for variance in ("posterior", "beta", "optimal"):
        head, *body = whole.table(f"{variance.capitalize()} variance.")
        assert head == ["schedule optimizer", "K = 4", "K = 8", "K = 16", "K = 32", "full grid, 1000 steps"]
        of = {"metric": "bits_per_dim", "variance": variance, "finetuned": False}
        full = one(rows, schedule_optimizer="full", **of)
        assert body[0].pop() == f"{full.value:.3f}|± {full.standard_error:.3f}"
        assert [row[0] for row in body] == ["even", "quadratic", "log_snr", "karras", "tangent", "elbo_dp"]
        for name, *cells in body:
            for k, cell in zip((4, 8, 16, 32), cells, strict=True):
                row = one(rows, schedule_optimizer=name, steps=k, **of)
                assert cell == f"{row.value:.3f}|± {row.standard_error:.3f}"


def test_every_distance_cell_is_the_files_mean_and_seeds(whole: Tables, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    for solver, steps in (("ddim", (4, 8, 16)), ("ancestral", (8,))):
        _, *body, floor = whole.table(f"fid_digits with the {solver} solver")
        assert floor == ["floor: real images|n = 360", "1.31|± 0.05"]
        assert len(body) == 6
        for name, *cells in body:
            for k, cell in zip(steps, cells, strict=True):
                of = {"metric": "fid_digits", "schedule_optimizer": name, "steps": k, "finetuned": False}
                a, b = (one(rows, solver=solver, sample_seed=seed, **of).value for seed in (0, 1))
                assert cell == f"{(a + b) / 2:.2f}|{a:.2f} ± 0.05 · {b:.2f} ± 0.05"


def test_distance_caption_names_the_judge(whole: Tables) -> None:
    (caption,) = [text for text, _ in whole.tables if "ddim" in text]
    for fact in ("digits network", "97.8 ± 0.8 %", "1,000 samples", "seeds 0, 1", "train split", "jackknife"):
        assert fact in caption


def test_before_and_after_fine_tuning_are_the_files(whole: Tables, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    table = {row[0]: row[1:] for row in whole.table("before and after fine-tuning")[1:]}
    of = {"schedule_optimizer": "elbo_dp", "steps": 8}
    for variance in ("posterior", "beta", "optimal"):
        kind = {"metric": "bits_per_dim", "variance": variance}
        before, after = (one(rows, finetuned=tuned, **kind, **of).value for tuned in (False, True))
        assert table[f"bits/dim, {variance} variance, test"] == [
            "elbo_dp, K = 8",
            f"{before:.3f}|± 0.021",
            f"{after:.3f}|± 0.021",
            "-0.012|± 0.030*",
        ]
    assert table["fid_digits, ddim"][3] == "-0.31|-0.31 · -0.31"
    assert table["denoising error at the schedule’s timesteps, validation"][1:3] == [
        "0.03251|± 0.00070",
        "0.03121|± 0.00070",
    ]
    assert len(table) == 7


def test_cost_is_the_files_and_adds_up(whole: Tables, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows()
    table = whole.table("one evaluation of the network")
    seconds = sum(row.value for row in rows if row.metric.startswith("seconds_"))
    calls = sum(row.value for row in rows if row.metric.startswith("network_calls_"))
    assert table[1] == ["pretrain", "", "75.2", "201,472"]
    assert table[2] == ["features", "", "9.7", "–"]
    assert table[-1] == ["all", "", f"{seconds:.1f}", f"{calls:,.0f}"]
    stages = [row[0] for row in table[1:-1] if row[0]]
    assert stages == ["pretrain", "features", "statistics", "search", "finetune", "evaluate"]


def test_page_needs_nothing_from_outside(tmp_path: Path, synthetic_rows: MakeRows) -> None:
    picture = tmp_path / "samples.png"
    picture.write_bytes(b"\x89PNG as good as any")
    write_results(tmp_path / "results.csv", synthetic_rows())
    write_report(tmp_path, "A <b>title</b> & more", {"even, K = 8": picture})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Tables(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert {name for _, name, _ in page.attributes} & {"href", "srcset"} == set()
    sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    prefix = "data:image/png;base64,"
    assert all(source.startswith(prefix) for source in sources)
    embedded = [base64.b64decode(source.removeprefix(prefix)) for source in sources]
    files = ("bits_per_dim.png", "fid_digits.png", "nodes.png", "samples.png")
    assert embedded == [(tmp_path / name).read_bytes() for name in files]
    assert "A &lt;b&gt;title&lt;/b&gt; &amp; more" in text


HEADINGS = [
    "Bits/dim on few steps",
    "Sample quality: fid_digits",
    "Before and after fine-tuning",
    "Against the number of steps, in pictures",
    "Where each schedule puts its steps",
    "Cost",
    "How these numbers were made",
]


def test_sections_come_in_order(whole: Tables) -> None:
    assert whole.headings == HEADINGS


@pytest.mark.parametrize(
    ("prefix", "heading"),
    [
        ("bits_per_dim", "Bits/dim on few steps"),
        ("fid_", "Sample quality: fid_digits"),
        ("node_log_snr", "Where each schedule puts its steps"),
        (("seconds_", "network_calls_"), "Cost"),
    ],
)
def test_section_without_rows_is_left_out(
    report: Callable, synthetic_rows: MakeRows, prefix: str | tuple[str, ...], heading: str
) -> None:
    page = report([row for row in synthetic_rows() if not row.metric.startswith(prefix)])
    assert page.headings == [name for name in HEADINGS if name != heading]


@pytest.mark.parametrize(
    "metric", ["bits_per_dim", "fid_digits", "node_log_snr", "wiener_ratio_max", "seconds_search"]
)
def test_one_row_is_enough(report: Callable, synthetic_rows: MakeRows, metric: str) -> None:
    row = next(row for row in synthetic_rows() if row.metric == metric)
    assert report([row]).headings[-1] == "How these numbers were made"


def test_unfinetuned_sweep_job_of_other_data_and_steps(report: Callable, synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows(("discretization_gradient",), (3, 5), 3, (4, 5), "photos", "fid_inception")
    page = report([row for row in rows if not row.finetuned and row.schedule_optimizer != "full"])
    assert "Before and after fine-tuning" not in page.headings
    assert "Sample quality: fid_inception" in page.headings
    assert page.table("Optimal variance.")[0] == ["schedule optimizer", "K = 3", "K = 5"]
    assert [row[0] for row in page.table("fid_inception with the ddim solver")[1:-1]] == [
        "discretization_gradient"
    ]


def test_same_results_give_the_same_bytes(tmp_path: Path, synthetic_rows: MakeRows) -> None:
    write_results(tmp_path / "results.csv", synthetic_rows())
    write_report(tmp_path, "A title", {})
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_report(tmp_path, "A title", {})
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_bad_input_is_refused_in_one_sentence(tmp_path: Path, synthetic_rows: MakeRows) -> None:
    with pytest.raises(UserError, match="no results file"):
        write_report(tmp_path, "A title", {})
    rows = synthetic_rows()
    write_results(tmp_path / "results.csv", rows)
    with pytest.raises(UserError, match="no picture"):
        write_report(tmp_path, "A title", {"even": tmp_path / "missing.png"})
    with pytest.raises(UserError, match="cannot stand in the page"):
        write_report(tmp_path, "A title", {"even": tmp_path / "picture.tiff"})
    assert not (tmp_path / "report.html").exists()
    write_results(tmp_path / "results.csv", [*rows, *synthetic_rows(dataset="photos")])
    with pytest.raises(UserError, match="digits, photos; a report is of one dataset"):
        write_report(tmp_path, "A title", {})
    write_results(tmp_path / "results.csv", [])
    with pytest.raises(UserError, match="no value"):
        write_report(tmp_path, "A title", {})
