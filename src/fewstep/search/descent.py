"""Adam on a few free numbers, with warm-up, decay, and the best iterate by validation."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.calls import Calls
from fewstep.errors import UserError

# With the usual (0.9, 0.999) the first large slopes of a short descent carry gaps to nothing, and keep them there.
MOMENTA = (0.3, 0.8)


@dataclass(frozen=True)
class Descended:
    """Where a descent came to.

    Attributes:
        point: float64, its best iterate, the start included.
        score: its validation score.
        iterations: how many were made.
    """

    point: Tensor
    score: float
    iterations: int


@dataclass(frozen=True)
class Descent:
    """Adam (Kingma & Ba 2015); the rate rises linearly over `warmup` iterations, and falls as a half cosine to 0.

    Attributes:
        iterations: the most that are made.
        learning_rate: the largest change of a number per iteration.
        warmup: iterations of the rise.
        validate_every: iterations between validations.
        patience: validations without a better score before it stops.
    """

    iterations: int
    learning_rate: float
    warmup: int
    validate_every: int
    patience: int

    def most_calls(self, per_image: int, batch: int, validation: int) -> Calls:
        """The network calls of a descent that no patience stops, for a loss of so many calls per image.

        Args:
            per_image: network calls of the loss per image.
            batch: images per iteration.
            validation: images of a validation; there is one at the start, on the way, and at the end.
        """
        validations = 1 + -(-self.iterations // self.validate_every)
        return Calls(validations * validation * per_image, self.iterations * batch * per_image, batch)

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration, counted from 0."""
        decay = 0.5 * (1 + math.cos(math.pi * iteration / self.iterations))
        return self.learning_rate * min(1.0, (iteration + 1) / (self.warmup + 1)) * decay

    def __call__(
        self,
        start: Tensor,
        loss: Callable[[Tensor, int], Tensor],
        validate: Callable[[Tensor], float],
        advance: Callable[[int], object],
    ) -> Descended:
        """Descend from `start`.

        Args:
            start: float64, any shape.
            loss: (point, iteration) → a scalar, differentiable.
            validate: point → score, the lower the better.
            advance: is told how many iterations were made since it was last, or saved by stopping.

        Raises:
            UserError: a loss, its slope or a score that is not finite.
        """
        point = start.detach().clone().requires_grad_()
        adam = torch.optim.Adam([point], betas=MOMENTA)
        best = Descended(point.detach().clone(), _finite(validate(point.detach()), 0), 0)
        waited = made = 0
        for iteration in range(self.iterations):
            adam.param_groups[0]["lr"] = self.rate(iteration)
            with torch.enable_grad():
                value = loss(point, iteration)
                (point.grad,) = torch.autograd.grad(value, point)
            _finite((value + point.grad.abs().sum()).item(), iteration)
            adam.step()
            made += 1
            advance(1)
            if made % self.validate_every == 0 or made == self.iterations:
                score = _finite(validate(point.detach()), made)
                waited = 0 if score < best.score else waited + 1
                if score < best.score:
                    best = Descended(point.detach().clone(), score, made)
                if waited >= self.patience:
                    break
        advance(self.iterations - made)
        return Descended(best.point, best.score, made)


def _finite(value: float, iteration: int) -> float:
    if not math.isfinite(value):
        raise UserError(
            f"The loss or its slope in times is not finite ({value}) at iteration {iteration} of the gradient "
            "search; the network's weights may hold NaN, or its output may leap between timesteps."
        )
    return value
