"""Choices of trained weights: nothing changes before training, the rest stays frozen, the model is ordinary."""

from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fewstep.__main__ import CONF, build
from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.trainable.all import AllWeights
from fewstep.trainable.base import Trainable, merge, trained_parameters
from fewstep.trainable.last_layers import LastLayers
from fewstep.trainable.low_rank import ADAPTED, LowRank
from fewstep.weights import WEIGHTS, load_model, save_model

NAMES = sorted(path.stem for path in (CONF / "trainable").glob("*.yaml"))
LAYERS = ["out", "output_blocks.*"]
PROCESS = Process.cosine(40, 1 / 16)


def trainable(name: str) -> Trainable:
    """As the program gets it."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(hydra.compose("config", [f"trainable@finetune.trainable={name}"]))
    assert isinstance(composed, dict)
    found: Trainable = build(composed["finetune"]["trainable"])
    return found


def network() -> UNet:
    """Random everywhere, so that no layer hides another."""
    made = UNet(
        image_size=8,
        in_channels=1,
        out_channels=1,
        model_channels=8,
        num_res_blocks=1,
        channel_mult=[1, 2],
        attention_resolutions=[4],
        num_heads=1,
        num_groups=2,
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return made.eval()


def output(of: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        output: Tensor = of(torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([0.5, 3.0, 40.0]))
    return output


def trained(of: nn.Module, steps: int = 3) -> nn.Module:
    """The network after some steps of training."""
    optimiser = torch.optim.Adam([p for p in of.parameters() if p.requires_grad], lr=0.05)
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        optimiser.zero_grad()
        x = torch.randn(4, 1, 8, 8, generator=generator)
        of(x, torch.arange(4.0)).square().sum().backward()
        optimiser.step()
    return of


def prepared(choice: Trainable, seed: int = 0) -> UNet:
    made = network()
    torch.manual_seed(seed)
    choice.prepare(made)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_is_named_after_its_file(name: str) -> None:
    assert trainable(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changes_before_training_and_much_after(name: str) -> None:
    made = prepared(trainable(name))
    before = output(network())
    assert torch.equal(output(made), before)
    assert (output(trained(made)) - before).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_keep_every_bit_through_training_and_averaging(name: str) -> None:
    made = prepared(trainable(name))
    averaged = AveragedModel(made, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    frozen = {key: p.detach().clone() for key, p in made.named_parameters() if not p.requires_grad}
    changing = {key: p.detach().clone() for key, p in made.named_parameters() if p.requires_grad}
    for _ in range(3):
        averaged.update_parameters(trained(made, steps=1))
    for found in (made, averaged.module):
        now = dict(found.named_parameters())
        assert now.keys() == frozen.keys() | changing.keys()
        assert all(torch.equal(now[key], value) for key, value in frozen.items())
        assert all(not torch.equal(now[key], value) for key, value in changing.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_averaged_copy_has_parameters_of_its_own(name: str) -> None:
    made = prepared(trainable(name))
    averaged = AveragedModel(made, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    averaged.update_parameters(made)  # the first call copies
    before = output(averaged.module)
    trained(made)
    assert torch.equal(output(averaged.module), before)
    averaged.update_parameters(made)
    assert not torch.equal(output(averaged.module), before)


@pytest.mark.parametrize("name", NAMES)
def test_the_merged_model_is_an_ordinary_one_and_computes_the_same(name: str, tmp_path: Path) -> None:
    made = trained(prepared(trainable(name)))
    expected = output(made)
    merge(made)
    assert made.state_dict().keys() == network().state_dict().keys()
    torch.testing.assert_close(output(made), expected, rtol=0, atol=1e-6)
    save_model(tmp_path, Denoiser(made, PROCESS, "v"), (1, 8, 8), 17)
    again = load_model(tmp_path)
    assert type(again.backbone.out[2]) is nn.Conv2d
    torch.testing.assert_close(output(again.backbone), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_comes_back_in_a_network_prepared_anew(name: str) -> None:
    made = trained(prepared(trainable(name)))
    again = prepared(trainable(name), seed=5)
    again.load_state_dict(made.state_dict())
    assert torch.equal(output(again), output(made))


# all


def test_all_trains_what_was_frozen_too() -> None:
    made = network().requires_grad_(False)
    AllWeights().prepare(made)
    assert trained_parameters(made) == sum(parameter.numel() for parameter in made.parameters())


# last_layers


def names_of(count: int, layers: list[str] = LAYERS) -> set[str]:
    made = prepared(LastLayers(count, layers))
    return {name for name, parameter in made.named_parameters() if parameter.requires_grad}


def test_the_last_layers_are_counted_from_the_output() -> None:
    every = [name for name, _ in network().named_parameters()]
    blocks = len(network().output_blocks)
    expected: set[str] = set()
    for count, prefix in enumerate(["out.", *(f"output_blocks.{i}." for i in reversed(range(blocks)))], start=1):
        expected |= {name for name in every if name.startswith(prefix)}
        assert names_of(count) == expected
    middle = {name for name in every if name.startswith("middle_block.")}
    assert names_of(blocks + 2, [*LAYERS, "middle_block"]) == expected | middle


def test_the_number_of_trained_parameters_is_that_of_the_last_layers() -> None:
    made = prepared(LastLayers(1, LAYERS))
    assert trained_parameters(made) == 8 + 8 + 8 * 9 + 1  # normalisation, and a 3×3 convolution of 8 channels to 1


def test_only_the_weights_of_the_last_layers_differ_in_the_file(tmp_path: Path) -> None:
    for folder, made in (("before", network()), ("after", trained(prepared(LastLayers(2, LAYERS))))):
        (tmp_path / folder).mkdir()
        save_model(tmp_path / folder, Denoiser(made, PROCESS, "v"), (1, 8, 8), 17)
    before, after = (load_file(tmp_path / folder / WEIGHTS) for folder in ("before", "after"))
    assert {name for name in before if not torch.equal(before[name], after[name])} == names_of(2)


@pytest.mark.parametrize(
    ("count", "layers", "sentence"),
    [
        (0, LAYERS, "count of last layers to train is 0, but must be at least 1"),
        (-1, LAYERS, "is -1, but must be at least 1"),
        (6, LAYERS, r"The last 6 layers .* out, output_blocks\.\* stand for 5 layers"),
        (1, [], "stand for 0 layers"),
        (
            1,
            ["outt"],
            "no layer 'outt'; it consists of time_embed, input_blocks, middle_block, output_blocks",
        ),
        (1, ["out", "up_blocks.*"], "no layer 'up_blocks'; it consists of time_embed"),
        (1, [""], "no layer ''"),
        (1, ["out.1"], r"The last 1 of the layers out\.1 have no weights"),
    ],
)
def test_last_layers_that_cannot_be_trained(count: int, layers: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        LastLayers(count, layers).prepare(network())


# low_rank


def adapted(of: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in of.named_modules() if isinstance(layer, ADAPTED)}


@pytest.mark.parametrize("rank", [1, 3, 1000])
def test_an_update_has_the_rank_that_it_is_given_or_the_layer_allows(rank: int) -> None:
    made = trained(prepared(LowRank(rank, 2.0)))
    merge(made)
    original = dict(network().named_modules())
    ranks = []
    for name, layer in adapted(made).items():
        matrix = (layer.weight.detach().double() - original[name].weight.double()).flatten(1)
        allowed = min(rank, *matrix.shape)
        # Against rounding of the merged float32 weights, which has every rank.
        ranks.append((int(torch.linalg.matrix_rank(matrix, atol=1e-5)), allowed))
    assert all(0 < found <= allowed for found, allowed in ranks)
    if rank == 3:
        assert (3, 3) in ranks
        assert (1, 1) in ranks  # the last convolution, which has one channel
    for name, value in made.state_dict().items():
        if not any(name == f"{layer}.weight" for layer in adapted(made)):
            assert torch.equal(value, network().state_dict()[name])


@pytest.mark.parametrize("rank", [1, 4, 1000])
def test_the_number_of_trained_parameters_is_that_of_the_factors(rank: int) -> None:
    shapes = [layer.weight.flatten(1).shape for layer in adapted(network()).values()]
    expected = sum(min(rank, rows, columns) * (rows + columns) for rows, columns in shapes)
    assert trained_parameters(prepared(LowRank(rank, 1.0))) == expected


def test_a_convolution_computes_the_sum_of_hu_et_al() -> None:
    """h = W x + (alpha/r) B (A x), the two small convolutions in sequence (Hu et al. 2021, eq. 3)."""
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 5, 3, padding=1).double()
    weight, bias, x = layer.weight.detach().clone(), layer.bias, torch.randn(2, 6, 7, 7, dtype=torch.float64)
    LowRank(2, 3.0).prepare(layer)
    (update,) = layer.parametrizations.weight
    nn.init.normal_(update.B)
    down = F.conv2d(x, update.A.view(2, 6, 3, 3), padding=1)
    expected = F.conv2d(x, weight, bias, padding=1) + 3 / 2 * F.conv2d(down, update.B[:, :, None, None])
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_a_layer_of_lower_rank_keeps_the_scale_of_its_own_rank() -> None:
    layer = nn.Linear(9, 2).double()
    before = layer.weight.detach().clone()
    LowRank(8, 4.0).prepare(layer)
    (update,) = layer.parametrizations.weight
    assert update.A.shape == (2, 9)
    nn.init.normal_(update.B)
    torch.testing.assert_close(layer.weight - before, 4 / 2 * update.B @ update.A, rtol=0, atol=1e-12)


def test_every_gradient_of_a_new_update_is_that_of_B() -> None:
    """With B = 0 the gradient of A vanishes and that of B is (alpha/r) ∂L/∂W Aᵀ."""
    layer = nn.Linear(5, 4).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    layer(x).square().sum().backward()
    slope = layer.weight.grad.clone()
    LowRank(2, 6.0).prepare(layer)
    (update,) = layer.parametrizations.weight
    layer(x).square().sum().backward()
    assert update.A.grad.count_nonzero() == 0
    torch.testing.assert_close(update.B.grad, 3 * slope @ update.A.detach().T)


@pytest.mark.parametrize(
    ("rank", "alpha", "sentence"),
    [
        (0, 1.0, "rank of a low-rank update is 0, but must be at least 1"),
        (-2, 1.0, "is -2, but must be at least 1"),
        (1, 0.0, "alpha of a low-rank update is 0.0, but must be positive and finite"),
        (1, float("nan"), "is nan, but must be positive and finite"),
        (1, float("inf"), "is inf, but must be positive and finite"),
    ],
)
def test_settings_of_low_rank_updates_that_cannot_be_used(rank: int, alpha: float, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        LowRank(rank, alpha)


def test_a_network_without_matrices_has_nothing_to_update() -> None:
    with pytest.raises(UserError, match="no linear layer and no convolution"):
        LowRank(1, 1.0).prepare(nn.Sequential(nn.LayerNorm(3), nn.SiLU()))
