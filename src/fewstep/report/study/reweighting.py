"""The paper's remedy for FID: the dynamic programme on the reweighted squared error instead of the ELBO."""

from fewstep.report.claim import Claim, effect_verdict, not_measured
from fewstep.report.differences import Difference, chance, few_seeds
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import BITS_DECIMALS, NOTHING, fid_decimals, listing, span
from fewstep.report.study.ordering import SEARCHED, comparisons
from fewstep.report.study.parts import NETWORKS, Study
from fewstep.report.study.quality import columns_of, heading
from fewstep.report.tables import Cell, Table

REWEIGHTED = "mse_reweighted_dp"


def reweighting_helps(study: Study) -> Claim:
    """Fréchet distances of the reweighted programme minus those of the ELBO's, paired by seeds."""
    said = (
        f"Reweighting the squared error by the steps’ lengths ({REWEIGHTED}) gives a better FID than {SEARCHED} "
        "(Watson et al. 2021)."
    )
    cells = {
        (network.name, heading(column)): difference
        for network in study.networks
        for column in columns_of(network.distances)
        for difference in [column[0].difference(REWEIGHTED, SEARCHED, column[1])]
        if difference is not None
    }
    if not cells:
        return not_measured(said, study.without(NETWORKS))
    few = few_seeds(list(cells.values()))
    if few:
        return not_measured(said, [few, _table(study, cells)])
    most = max(difference.seeds or 0 for difference in cells.values())
    better = sum(difference.is_claim and difference.mean < 0 for difference in cells.values())
    worse = sum(difference.is_claim and difference.mean > 0 for difference in cells.values())
    return Claim(
        said,
        effect_verdict(better, worse, len(cells)),
        f"better in {better}, worse in {worse} of {len(cells)} comparisons",
        [_sentences(study, better, worse, len(cells), most), _table(study, cells)],
    )


def _sentences(study: Study, better: int, worse: int, of: int, seeds: int) -> str:
    text = (
        f"By more than twice the standard error over paired seeds {REWEIGHTED} is better than {SEARCHED} in "
        f"{better} of {of} comparisons (network, solver, K), worse in {worse}, and not told apart in "
        f"{of - better - worse}. (Where nothing differs, chance puts {100 * chance(seeds):.0f} % of comparisons "
        f"over {seeds} seeds beyond twice their standard error.)"
    )
    bits = comparisons(study.networks, REWEIGHTED, (SEARCHED,))
    if bits:
        costs = [
            f"{span([one.difference.mean for one in bits if one.steps == K], BITS_DECIMALS)} at K = {K}"
            for K in sorted({one.steps for one in bits})
        ]
        text += f" In bits/dim it costs, over networks and variances, {listing(costs)}."
    return text


def _table(study: Study, cells: dict[tuple[str, str], Difference]) -> str:
    heads = list(dict.fromkeys(head for _, head in cells))
    decimals = fid_decimals([distance.panel for network in study.networks for distance in network.distances])
    rows = [
        [
            Cell(name),
            *(cells[name, head].cell(decimals) if (name, head) in cells else Cell(NOTHING) for head in heads),
        ]
        for name in dict.fromkeys(name for name, _ in cells)
    ]
    caption = (
        f"Fréchet distance of {REWEIGHTED} minus that of {SEARCHED} ± standard error over paired seeds, negative "
        f"where reweighting is better; bold: beyond twice the standard error."
    )
    return markdown_table(Table(caption, ["network", *heads], rows))
