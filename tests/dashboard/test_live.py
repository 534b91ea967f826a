"""Curves while a training lasts."""

from fewstep.dashboard.live import LiveCurves


def sent_by(live: LiveCurves, *values: tuple[int, dict[str, float]]) -> None:
    for iteration, measured in values:
        live.add(iteration, measured)
    live.flush()


def test_what_is_measured_at_one_iteration_is_one_point_and_nothing_is_sent_twice() -> None:
    sent: list[tuple[int, dict[str, float]]] = []
    live = LiveCurves(lambda iteration, values: sent.append((iteration, dict(values))))
    sent_by(live, (9, {"loss": 3.0}), (19, {"loss": 2.0}), (19, {"on": 5.0}))
    assert sent == [(9, {"loss": 3.0}), (19, {"loss": 2.0, "on": 5.0})]
    # Resumed from iteration 10: 19 comes again, and 29 for the first time.
    sent_by(live, (19, {"loss": 2.0}), (19, {"on": 5.0}), (29, {"loss": 1.0}))
    assert sent[2:] == [(29, {"loss": 1.0})]
