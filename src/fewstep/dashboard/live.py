"""The curves of a training while it lasts."""

from collections.abc import Callable, Mapping


class LiveCurves:
    """Points that go out whole, once the next one begins: a loss and a validation may come one after the other.

    Args:
        send: is given the iteration and the values of a point.
        sent: the last iteration that went out before.
    """

    def __init__(self, send: Callable[[int, Mapping[str, float]], None], sent: int = -1) -> None:
        self.send, self.sent = send, sent
        self._iteration, self._values = sent, dict[str, float]()

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take in values; those of iterations that went out are left out, as a resumed training repeats some."""
        if iteration > self._iteration:
            self.flush()
            self._iteration = iteration
        if iteration > self.sent:
            self._values |= values

    def flush(self) -> None:
        """Send what is left."""
        if self._values:
            self.send(self._iteration, self._values)
            self.sent, self._values = self._iteration, {}
