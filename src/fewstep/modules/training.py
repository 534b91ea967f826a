"""The training loop of pretraining and of restricted fine-tuning; they differ in loss and in the times drawn."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

from fewstep.data.base import Images
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.losses.base import Loss
from fewstep.losses.simple import SimpleLoss
from fewstep.noise import InitialNoise
from fewstep.ranks import gathered, rank, world
from fewstep.time_distribution import TimeDistribution

# x_0 [B, C, H, W], quantiles of times float64 [B], noise [B, C, H, W] and, for a class-conditional model, labels
Batch = tuple[Tensor, ...]
SIMPLE: Loss = SimpleLoss()
BATCH = 256  # validation images per network call


class TrainingBatches(IterableDataset[Batch]):
    """Batch i is a function of (seed, i) alone, so that a resumed run draws what an unbroken one would.

    Images come in epochs, each a permutation of its own; quantiles of times are stratified over the batch (Kingma
    et al. 2021, App. I), which lowers the loss's variance. The module turns them into times, because a
    distribution may have learned meanwhile.

    Args:
        images: [N, C, H, W].
        times: the distribution that the quantiles are of.
        batch_size: over all devices together.
        seed: of permutations, quantiles and noise.
        labels: int64 [N] where the model is class-conditional.

    Attributes:
        first: the iteration to begin at; the module sets it when a checkpoint is loaded.
    """

    def __init__(
        self,
        images: Images,
        times: TimeDistribution,
        batch_size: int,
        seed: int,
        labels: Tensor | None = None,
    ) -> None:
        self.images, self.times, self.batch_size, self.seed = images, times, batch_size, seed
        self.labels = labels
        self.first = 0
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def __iter__(self) -> Iterator[Batch]:
        iteration = self.first
        while True:
            yield self.batch(iteration)
            iteration += 1

    def batch(self, iteration: int) -> Batch:
        """This rank's part of the batch of an iteration."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, iteration], counter=[0, 0, 1, 0]))
        rows = self._rows(iteration)
        shape = (self.batch_size, *self.images.shape[1:])
        noise = torch.from_numpy(random.standard_normal(shape, dtype=np.float32))
        strata = torch.from_numpy(random.permutation(self.batch_size))
        quantiles = (strata.double() + random.random()) / self.batch_size  # in float32 it may round to 1
        mine = slice(rank(), None, world())
        label = () if self.labels is None else (self.labels[rows[mine]],)
        return self.images[rows[mine]], quantiles[mine], noise[mine], *label

    def _rows(self, iteration: int) -> Tensor:
        n = len(self.images)
        positions = np.arange(iteration * self.batch_size, (iteration + 1) * self.batch_size)
        rows = np.empty(self.batch_size, dtype=np.int64)
        for epoch in np.unique(positions // n):
            if epoch != self._epoch:  # kept from batch to batch, as a large set's takes longer than a batch
                self._epoch = int(epoch)
                self._permutation = np.random.default_rng([self.seed, self._epoch]).permutation(n)
            inside = positions // n == epoch
            rows[inside] = self._permutation[positions[inside] % n]
        return torch.from_numpy(rows)


class ValidationError:
    """The loss at fixed times on fixed images and noise: it changes with the weights alone.

    Args:
        images: [N, C, H, W] of the validation split.
        times: float64 [M], ascending.
        seed: of the noise, one ε per image.
        loss: the denoising error where none is given.
        path: float64 [P+1] from 0, the path whose steps the loss is of: a step's lower time is the node below its
            time, and a time counts as often as it has nodes between the time before it and itself. Without one
            every time counts once, with a neighbour of the grid.
        probabilities: [M], how much each time counts, where training does not draw the times alike.
        labels: int64 [N] where the model is class-conditional.
    """

    def __init__(
        self,
        images: Images,
        times: Tensor,
        seed: int,
        loss: Loss = SIMPLE,
        path: Tensor | None = None,
        probabilities: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        self.images, self.times, self.loss, self.path = images, times, loss, path
        self.probabilities, self.labels = probabilities, labels
        self.noise = InitialNoise(seed, range(len(images)), images.shape[1:])

    def per_image(self, denoiser: Denoiser, device: torch.device) -> Tensor:
        """The mean loss over times, by how much each counts; float64 [N], on the CPU."""
        path = denoiser.process.grid if self.path is None else self.path
        above = torch.searchsorted(path, self.times - 1e-9)  # the number of nodes below each time
        weights = self._weights(above)
        total = torch.zeros(len(self.images), dtype=torch.float64)
        for first in range(0, len(total), BATCH):
            rows = slice(first, first + BATCH)
            x0, noise = (part[rows].to(device, torch.float32) for part in (self.images, self.noise))
            given = denoiser.given(None if self.labels is None else self.labels[rows].to(device))
            for s, t, weight in zip(path[above - 1], self.times, weights.tolist(), strict=True):
                s, t = (time.expand(len(x0)).to(device) for time in (s, t))
                total[rows] += weight * self.loss(given, x0, s, t, noise, len(path) - 1).double().cpu()
        return total / weights.sum()

    def _weights(self, above: Tensor) -> Tensor:
        """How much each time counts, [M]; `above` is the number of the path's nodes below it."""
        if self.probabilities is not None:
            return self.probabilities
        return torch.ones_like(above) if self.path is None else above.diff(prepend=above.new_zeros(1))

    def mean(self, denoiser: Denoiser, device: torch.device, iterations: int) -> float:
        """The mean of `per_image` over images, of a denoiser that was trained for so many iterations.

        Raises:
            UserError: it is not finite.
        """
        error = self.per_image(denoiser, device).mean().item()
        if not math.isfinite(error):
            raise UserError(
                f"The validation error is {error} after {iterations} iterations; the last good checkpoint is "
                "kept. Lower the learning rate."
            )
        return error


class TrainingModule(pl.LightningModule):
    """Adam on a loss, with an exponential moving average of the weights.

    Logs `train/loss`, `validation/on` and, where given, `validation/off` (the averaged weights' error at the
    chosen timesteps and off them).

    Args:
        denoiser: trained in place, but for parameters that ask for no gradient; its averaged copy is `averaged`.
        batches: the training data.
        on: validation at the times that are trained.
        off: validation at other times; None where there are none.
        learning_rate: after warm-up.
        warmup: iterations over which the learning rate rises.
        iterations: all iterations; the learning rate falls to zero over the last half as a cosine.
        ema_decay: of the moving average, per iteration; lower at the start, where it would remember the
            initial weights: min(ema_decay, (1 + i)/(10 + i)).
        loss: what is lowered; the denoising error where none is given.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        batches: TrainingBatches,
        on: ValidationError,
        off: ValidationError | None,
        *,
        learning_rate: float,
        warmup: int,
        iterations: int,
        ema_decay: float,
        loss: Loss = SIMPLE,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.averaged = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))
        self.averaged.requires_grad_(False)
        self.batches, self.on, self.off, self.loss = batches, on, off, loss
        self.times = batches.times  # as a part of the module, so that what they have learned is in checkpoints
        self.learning_rate, self.warmup, self.iterations, self.ema_decay = (
            learning_rate,
            warmup,
            iterations,
            ema_decay,
        )

    @property
    def averaged_denoiser(self) -> Denoiser:
        """The denoiser with averaged weights."""
        denoiser = self.averaged.module
        assert isinstance(denoiser, Denoiser)
        return denoiser

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from where training stands."""
        self.batches.first = self.trainer.global_step
        return DataLoader(self.batches, batch_size=None)

    def val_dataloader(self) -> DataLoader[int]:
        """One dummy row: the validation data lie in `on` and `off`."""
        return DataLoader(range(1), batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a batch."""
        x0, quantiles, noise, *label = batch
        # A resumed run must draw the dropout masks of an unbroken one.
        (seed,) = np.random.SeedSequence([self.batches.seed, self.global_step, rank()]).generate_state(1)
        torch.manual_seed(int(seed))
        drawn = self.times.draw(quantiles)
        denoiser = self.denoiser.given(*label)
        per_image = self.loss(denoiser, x0, drawn.s, drawn.t, noise, len(self.times.nodes) - 1)
        n = self.batches.batch_size
        # Gradients are averaged over devices, whose parts of a batch may differ in size by one.
        share = len(x0) * world() / n
        loss = share * (drawn.weight.to(per_image.dtype) * per_image).mean()
        if not torch.isfinite(loss):
            raise UserError(
                f"The training loss is {loss.item()} at iteration {self.global_step}; the last good checkpoint is "
                "kept. Lower the learning rate."
            )
        self.times.observe(gathered(drawn.index, n), gathered(per_image.detach(), n))
        self.log("train/loss", loss, prog_bar=True, on_step=True, sync_dist=world() > 1)
        return loss

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Step, and move the average; here, because callbacks save checkpoints before the batch's last hook."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        iteration = self.global_step + 1
        decay = min(self.ema_decay, (1 + iteration) / (10 + iteration))
        self._set_decay(decay)
        self.averaged.update_parameters(self.denoiser)

    def _set_decay(self, decay: float) -> None:
        """The average is kept in float32: in half precision it would not move by a thousandth of a difference."""
        types = [next(network.parameters()).dtype for network in (self.averaged, self.denoiser)]
        if types[0] == types[1]:
            self.averaged.multi_avg_fn = get_ema_multi_avg_fn(decay)
        else:
            self.averaged.multi_avg_fn = None
            self.averaged.avg_fn = lambda average, weight, _: average.lerp(weight.to(average.dtype), 1 - decay)

    def validation_step(self, row: int, batch_idx: int) -> None:
        """The averaged weights' error at the chosen timesteps, and off them."""
        self.log("validation/on", self._error(self.on), prog_bar=True, batch_size=1)
        if self.off is not None:
            self.log("validation/off", self._error(self.off), batch_size=1)

    def _error(self, validation: ValidationError) -> float:
        # Checkpoints are written after a validation, so that every one of them is good.
        device = self.trainer.strategy.root_device
        return validation.mean(self.averaged_denoiser.eval(), device, self.global_step)

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        """Adam with warm-up and a cosine decay over the last half, on what asks for a gradient."""
        trained = [parameter for parameter in self.denoiser.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(trained, lr=self.learning_rate)
        scheduler = LambdaLR(optimiser, self._learning_rate_factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _learning_rate_factor(self, iteration: int) -> float:
        risen = min(1.0, (iteration + 1) / max(1, self.warmup))
        progress = min(1.0, max(0.0, 2 * iteration / self.iterations - 1))
        return float(risen * 0.5 * (1 + np.cos(np.pi * progress)))
