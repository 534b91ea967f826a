"""FLOPs in closed form, and bytes of tensors whose sizes are known."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.calls import Calls
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.planning.memory import peak_bytes
from fewstep.planning.network import ADAM, Network, PerImage
from fewstep.planning.operations import flops
from fewstep.process import Process

CPU = torch.device("cpu")
C, SIZE = 6, 8
PIXELS = SIZE * SIZE


class TwoConvolutions(nn.Module):
    """1 → C → 1 channels, 3×3, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, C, 3, padding=1, bias=False)
        self.second = nn.Conv2d(C, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.second(self.first(x))


def network(backbone: nn.Module, batch: int = 16) -> Network:
    denoiser = Denoiser(backbone, Process.cosine(20), "x0")
    return Network(denoiser, (1, SIZE, SIZE), CPU, nullcontext, batch, batch)


def test_flops_of_convolutions_are_twice_their_multiply_adds() -> None:
    measured = network(TwoConvolutions())
    one = 2 * 9 * C * PIXELS  # of either convolution
    assert measured.forward.flops == 2 * one
    # Backward: the slope in weights of both, and in the input of the second alone.
    assert measured.forward_backward.flops == (2 + 3) * one


def test_a_frozen_layer_costs_no_backward_pass_and_no_moments() -> None:
    frozen = TwoConvolutions()
    frozen.first.requires_grad_(False)
    measured = network(frozen)
    assert not measured.trains_all
    assert measured.forward_backward.flops == 3 * 2 * 9 * C * PIXELS
    assert measured.trained_bytes == measured.weight_bytes // 2 == 4 * 9 * C


def test_the_flops_of_attention_on_a_cpu_are_those_of_its_matrix_products() -> None:
    query, key = torch.randn(2, 3, 10, 4), torch.randn(2, 3, 7, 4)
    products = 2 * 2 * 3 * 10 * 7 * 4
    assert flops(lambda: functional.scaled_dot_product_attention(query, key, key)) == 2 * products
    query.requires_grad_()

    def both() -> None:
        functional.scaled_dot_product_attention(query, key, key).sum().backward()

    assert flops(both) == (2 + 5) * products


def test_the_peak_is_of_tensors_that_live_at_once() -> None:
    x = torch.zeros(1000)  # float32

    def work() -> Tensor:
        y = x + 1
        y = y * 2  # two at once
        y += 3  # in place
        return y[:10]  # a view

    assert peak_bytes(work, CPU) == 2 * 4000

    def chain() -> None:
        y = x
        for _ in range(10):
            y = y + 1

    assert peak_bytes(chain, CPU) == 2 * 4000


def test_tensors_that_wait_for_the_backward_pass_are_counted() -> None:
    x = torch.zeros(1000, requires_grad=True)

    def work() -> None:
        y = x
        for _ in range(10):
            y = y.exp()  # saves what it returns
        y.sum().backward()

    assert 10 * 4000 <= peak_bytes(work, CPU) <= 13 * 4000


def test_spending_is_linear_in_images_and_training_holds_gradients_moments_and_averages() -> None:
    measured = network(TwoConvolutions())
    measured.passes = {
        "forward": PerImage(flops=10, seconds=0.5, bytes=100.0, batch=4),
        "forward and backward": PerImage(flops=30, seconds=2.0, bytes=300.0, batch=4),
    }
    weights = measured.weight_bytes
    assert weights == 4 * 2 * 9 * C
    spent = measured.spending(Calls(6, 0, batch=3), trains=False)
    assert (spent.flops, spent.seconds, spent.bytes) == (60, 3.0, weights + 300)
    spent = measured.spending(Calls(2, 5, batch=8), trains=True)
    assert (spent.flops, spent.seconds, spent.bytes) == (20 + 150, 11.0, (3 + ADAM) * weights + 8 * 300)
    assert measured.spending(Calls(), trains=True).bytes == 0


class Labelled(TwoConvolutions):
    """Refuses to run without labels."""

    num_classes = 3

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        assert label is not None
        assert (label.dtype, len(label)) == (torch.int64, len(x))
        return super().forward(x, time)


def test_a_network_with_classes_is_measured_with_labels() -> None:
    assert network(Labelled()).forward.flops == network(TwoConvolutions()).forward.flops


def test_the_pass_that_compiles_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = Denoiser(TwoConvolutions(), Process.cosine(20), "x0", compile="eager")
    measured = Network(denoiser, (1, SIZE, SIZE), CPU, nullcontext, 16, 16)
    now, compiled = 0.0, set[int]()

    def work(images: int) -> None:
        nonlocal now
        now += 0.01 * images if images in compiled else 100.0
        compiled.add(images)

    monkeypatch.setattr("fewstep.planning.network.time.perf_counter", lambda: now)
    images, seconds = measured._as_many(work, 16)
    assert images == 16
    assert seconds == pytest.approx(0.16)


class Narrow(TwoConvolutions):
    """As if the memory held so many images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError
        return super().forward(x, time)


def test_a_batch_that_the_memory_does_not_hold_is_measured_on_fewer_images() -> None:
    assert network(Narrow(5), batch=64).forward.batch == 4
    with pytest.raises(UserError, match="Not even one image passes through the network in the memory of cpu"):
        assert network(Narrow(0)).forward
