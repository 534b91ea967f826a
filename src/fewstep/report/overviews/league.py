"""The league: every schedule optimizer against every other, on the same network and the same noise."""

from collections.abc import Sequence

from fewstep.report.content import Content, Heading, Plot
from fewstep.report.league.contests import contests
from fewstep.report.league.leagues import League, leagues
from fewstep.report.league.plot import places_plot
from fewstep.report.league.tables import contest_table, places_table
from fewstep.report.overviews.base import Measured

ABOUT = (
    "Every schedule optimizer against every other, on the same network and the same noise, as the runs in outputs "
    "have measured them; lower is better everywhere. Two of them are told apart by their paired difference, with "
    "Holm's correction for the number of pairs, so that at each number of steps all places hold at once with 95 % "
    "probability; who cannot be told apart ties. A better likelihood is not a better sample: each is ranked apart."
)
COMMAND = "fewstep experiment=digits_league"


class LeagueTable:
    """Places, differences and costs: a league for every network on which several schedule optimizers met."""

    name = "league"

    def __call__(self, available: Measured) -> Content:
        """The page."""
        found = leagues(available.runs)
        if not found:
            missing = ", ".join(available.schedule_optimizers)
            empty = f"Not run: {missing}. The league of digits is made by `{COMMAND}`."
            return Content("The league of schedule optimizers", ABOUT, [], [Heading("No league yet", [empty])])
        headings = [
            heading
            for number, league in enumerate(found, start=1)
            for heading in _headings(league, f"league_{number}" if number > 1 else "league", available)
        ]
        return Content("The league of schedule optimizers", ABOUT, [], headings)


def _headings(league: League, plot: str, available: Measured) -> Sequence[Heading]:
    """Its places and their picture, then every quantity."""
    met = contests(league.part)
    if not met:
        return []
    took_part = {name.partition(" (")[0] for name in league.searches}
    not_run = [name for name in available.schedule_optimizers if name not in took_part]
    caption = "The places that every schedule optimizer may have, a mark at their middle."
    told = [f"Not run: {', '.join(not_run)}; `{COMMAND}` runs all of them on digits."] if not_run else []
    return [
        Heading(
            league.title,
            told,
            [Plot(plot, caption, places_plot(met))],
            [places_table(met, league.searches, not_run)],
        ),
        *(Heading(f"{league.title}: {contest.name}", tables=[contest_table(contest)]) for contest in met),
    ]
