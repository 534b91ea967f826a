"""Tables of what else was measured of samples."""

from collections.abc import Callable
from pathlib import Path

from fewstep.report.page import sections
from fewstep.report.sample_metrics import sample_metric_tables, sample_metrics
from fewstep.results import Result


def kid_rows() -> list[Result]:
    of = {"dataset": "cifar10", "metric": "kid_inception", "split": "train", "standard_error": 0.0003}
    sampled = of | {"solver": "ddim", "n_images": 50_000, "steps": 8, "nfe": 8}
    rows = [
        Result(**sampled, schedule_optimizer=name, sample_seed=seed, value=value + 0.0002 * seed)
        for name, value in (("even", 0.0123), ("elbo_dp", 0.0345))
        for seed in (0, 1)
    ]
    return [*rows, Result(**of, schedule_optimizer="data", n_images=10_000, value=-0.0001)]


def test_a_measure_has_a_table_with_its_meaning_and_its_floor() -> None:
    rows = kid_rows()
    assert sample_metrics(rows) == ["kid_inception"]
    (table,) = sample_metric_tables(rows, "kid_inception")
    assert "features of the inception network: 50,000 samples a run against the train split" in table.caption
    assert "Lower is better" in table.caption
    assert [row[0].text for row in table.rows] == ["even", "elbo_dp", "floor: real images"]
    assert (table.rows[0][1].text, table.rows[0][1].detail) == ("0.0124", "0.0123 ± 0.0003 · 0.0125 ± 0.0003")
    assert (table.rows[2][0].detail, table.rows[2][1].text) == ("n = 10,000", "−0.0001")


def test_the_page_has_a_section_where_it_was_measured(
    synthetic_rows: Callable[..., list[Result]], tmp_path: Path
) -> None:
    def headings(rows: list[Result]) -> list[str]:
        return [section.heading for section in sections(rows, tmp_path, [])]

    assert "Sample quality: kid_inception" in headings(kid_rows())
    assert not any("kid" in heading for heading in headings(synthetic_rows()))


def test_the_references_size_stands_in_the_caption(
    synthetic_rows: Callable[..., list[Result]], tmp_path: Path
) -> None:
    rows = synthetic_rows()
    rows.append(Result(metric="reference_images", value=1257, n_images=1257, split="train", dataset="digits"))
    found = next(section for section in sections(rows, tmp_path, []) if "fid_digits" in section.heading)
    assert all("samples a run against 1,257 images of the train split" in table.caption for table in found.tables)
