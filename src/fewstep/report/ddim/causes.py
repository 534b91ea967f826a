"""Why a schedule loses where it does, as far as the numbers tell: clocks, nodes, and what objectives rank."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, median

from fewstep.report.ddim.networks import Networks
from fewstep.report.ddim.nodes import angle_steps, moved, noise_levels
from fewstep.report.ddim.objectives import ranked
from fewstep.report.ddim.verdicts import METHOD, cells_of
from fewstep.report.failure_signatures import OBJECTIVE
from fewstep.report.fine_steps import METRICS
from fewstep.report.markdown import bullets
from fewstep.report.printing import fid_decimals, listing, number, signed, span
from fewstep.report.rows import TUNED

LOW_NOISE = 0.5  # σ/α: about the standard deviation of the digits’ pixels
NEARLY_EVEN = 1.1  # greatest over least step in angle
AGREES = 0.5  # Spearman’s ρ
SEARCHED = f"{METHOD}_dp"


def causes_section(everything: Sequence[Networks]) -> list[str]:
    """Every piece of evidence that was measured."""
    sentences = [
        *_clock(everything),
        *_between_processes(everything),
        *_low_noise(everything),
        *_own_objective(everything),
        *_ranks(everything),
    ]
    return bullets(sentences) or ["Nothing was measured that could tell a cause."]


def _clock(everything: Sequence[Networks]) -> list[str]:
    """Whether even stride is the tangent law of a process."""
    sentences = []
    for networks in everything:
        ratios = []
        for K in networks.steps:
            steps = angle_steps(noise_levels(networks, K).get("even", []))
            if len(steps) > 1 and min(steps) > 0:
                ratios.append(max(steps) / min(steps))
        if not ratios:
            continue
        figure = f"its greatest step in angle arctan σ/α is {span(ratios, 2)} times its least"
        if max(ratios) <= NEARLY_EVEN:
            sentences.append(
                f"**{networks.process}: even stride is the tangent law with c = 1** ({figure}), the optimum of "
                "Euler’s method on Gaussian data of unit variance. A strong baseline by the accident of that "
                "clock."
            )
        else:
            sentences.append(f"{networks.process}: even stride is no tangent law ({figure}).")
    return sentences


def _between_processes(everything: Sequence[Networks]) -> list[str]:
    """How far the clock moves even stride and the searched schedule, and what that does to their distances."""
    largest: dict[str, float] = {}
    for a, b in combinations(everything, 2):
        for K in set(a.steps) & set(b.steps):
            here, there = noise_levels(a, K), noise_levels(b, K)
            for name in ("even", SEARCHED):
                if name in here and name in there:
                    largest[name] = max(largest.get(name, 0.0), moved(here[name], there[name]))
    if len(largest) < 2:
        return []
    factors = {name: number(math.exp(log), 1) for name, log in largest.items()}
    text = (
        "From one process to another even stride moves a node’s noise level by a factor of up to "
        f"{factors['even']}, {SEARCHED} by up to {factors[SEARCHED]}."
    )
    cells = cells_of(everything, SEARCHED, "even")
    better, worse = ({one.process for one in cells if one.says == word} for word in ("better", "worse"))
    if better and worse and better != worse:
        text += (
            f" It is better than even stride somewhere on {listing(sorted(better))} and worse somewhere on "
            f"{listing(sorted(worse))}: against even stride the process’s clock is compared as much as the "
            "schedule."
        )
    return [text]


def _low_noise(everything: Sequence[Networks]) -> list[str]:
    """Whether the searched schedule has more nodes at low noise than the rows that beat it."""
    mine, best, more, cases = [], [], 0, 0
    for networks in everything:
        for K in networks.steps:
            untuned = {
                name: by_K[K].mean
                for name, by_K in networks.distances.items()
                if K in by_K and not name.endswith(TUNED)
            }
            nodes = noise_levels(networks, K)
            if SEARCHED not in untuned:
                continue
            winner = min(untuned, key=lambda name: untuned[name])
            if winner == SEARCHED or winner not in nodes or SEARCHED not in nodes:
                continue
            counts = [sum(level < LOW_NOISE for level in nodes[name]) / K for name in (SEARCHED, winner)]
            mine.append(counts[0])
            best.append(counts[1])
            more += counts[0] > counts[1]
            cases += 1
    if not cases:
        return []
    figures = (
        f"below σ/α = {LOW_NOISE} it has {100 * fmean(mine):.0f} % of its nodes on average, the row of the lowest "
        f"distance {100 * fmean(best):.0f} %; more than that row in {more} of {cases}"
    )
    if 2 * more > cases:
        return [
            f"**{SEARCHED} puts too many nodes at low noise** where it is not the best row: {figures}. Its weight "
            "1/σ counts an error there in full, but not that an error made at high noise is carried down to the "
            "end."
        ]
    return [f"Where {SEARCHED} is not the best row, nodes at low noise are not the cause: {figures}."]


def _own_objective(everything: Sequence[Networks]) -> list[str]:
    """Whether the search found what it looked for, and what that was worth."""
    counts = dict.fromkeys(("objective", "distance", *METRICS), 0)
    cases, regret = 0, []
    for networks in everything:
        own = networks.of(f"{OBJECTIVE}{METHOD}")
        tables = {"objective": own, "distance": networks.distances} | {m: networks.of(m) for m in METRICS}
        for K in networks.steps:
            if K not in own.get(SEARCHED, {}):
                continue
            cases += 1
            for key, rows in tables.items():
                values = {n: by_K[K].mean for n, by_K in rows.items() if K in by_K and not n.endswith(TUNED)}
                if values and SEARCHED in values:
                    counts[key] += _first(values)
                    if key == "distance":
                        regret.append(values[SEARCHED] - min(values.values()))
    if not cases:
        return []
    words = [f"the lowest distance in {METRICS[m][0]} in {counts[m]}" for m in METRICS]
    decimals = fid_decimals([networks.panel for networks in everything if networks.panel])
    cost = f" By Fréchet distance it lies {span(regret, decimals)} above the lowest row." if regret else ""
    found = "finds what it looks for" if 2 * counts["objective"] > cases else "does not find what it looks for"
    return [
        f"The search {found}: among untuned rows {SEARCHED} (or a row within 1 % of it, such as the gradient "
        f"search’s) has the lowest discretization loss on held-out images in {counts['objective']} of {cases} "
        f"cells, the lowest Fréchet distance in {counts['distance']}, {listing(words)}.{cost}"
    ]


def _first(values: dict[str, float]) -> bool:
    """Whether the searched schedule is the lowest, but for 1 %."""
    return values[SEARCHED] <= 1.01 * min(values.values())


def _ranks(everything: Sequence[Networks]) -> list[str]:
    """Every objective: whether it ranks schedules as their samples do, over processes and K."""
    found = [one for networks in everything for one in ranked(networks)]
    sentences = []
    for objective in dict.fromkeys(one.objective for one in found):
        here = [one for one in found if one.objective == objective]
        told, medians = [], {}
        for measure in dict.fromkeys(one.measure for one in here):
            values = [one.correlation.rho for one in here if one.measure == measure]
            sure = sum(one.correlation.p_value < 0.05 for one in here if one.measure == measure)
            medians[measure] = median(values)
            told.append(f"{measure} {signed(medians[measure], 2)} (p < 0.05 in {sure} of {len(values)})")
        agree = [measure for measure, rho in medians.items() if rho >= AGREES]
        against = [measure for measure, rho in medians.items() if rho < AGREES]
        words = (("agrees", agree), ("disagrees", against))
        verdict = "; ".join(f"{word} with {listing(measures)}" for word, measures in words if measures)
        sentences.append(
            f"**{objective}** {verdict} (median ρ over processes and K of at least {AGREES} counts as agreement): "
            f"{listing(told)}."
        )
    return sentences
