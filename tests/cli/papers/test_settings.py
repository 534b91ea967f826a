"""The experiments of the two papers: the settings that were published."""

from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from fewstep.__main__ import CONF

K = [8, 16, 32, 64, 128, 256]
WATSON = {"even", "quadratic", "elbo_dp", "mse_reweighted_dp"}
FIXED, LEARNED = ["posterior", "beta", "optimal"], ["learned"]
PUBLISHED = {  # dataset, process, T, variances, images behind the table
    "watson_cifar10_simple": ("Cifar10", "linear", 1000, FIXED, None),
    "watson_cifar10_vlb": ("Cifar10", "cosine", 4000, LEARNED, None),
    "watson_cifar10_hybrid": ("Cifar10", "cosine", 4000, LEARNED, None),
    "watson_imagenet64_hybrid": ("ImageNet64", "cosine", 4000, LEARNED, 16384),
}


def composed(name: str) -> dict[str, Any]:
    words = [f"experiment={name}", "model.path=x", "dataset.path=y"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        settings = OmegaConf.to_container(hydra.compose("config", words), resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_watsons_set_up_is_the_published_one(name: str) -> None:
    dataset, process, timesteps, variances, images = PUBLISHED[name]
    c = composed(name)
    assert c["name"] == name
    assert c["dataset"]["_target_"].endswith(f".{dataset}")
    assert c["process"]["_target_"].endswith(f".Process.{process}")
    assert (c["process"]["T"], c["process"]["smallest_noise_level"]) == (timesteps, None)
    assert c["model"].get("timesteps", timesteps) == timesteps
    assert (c["pretrain"]["iterations"], c["finetune"]) == (0, None)
    assert c["steps"] == K
    assert {*c["schedule_optimizer"]} == WATSON
    assert [c["statistics"][key] for key in ("split", "images", "timesteps")] == ["train", images, "all"]
    evaluation = c["evaluation"]
    assert (evaluation["split"], evaluation["images"], evaluation["samples"]) == ("test", None, 50_000)
    assert evaluation["variances"] == variances
    assert c["variance"] in variances
    assert evaluation["decoders"] == ["additive", "improved_diffusion"]
    assert {*c["solver"]} == {"ancestral", "ddim"}
    assert {solver: evaluation["sample_steps"][solver] for solver in c["solver"]} == {"ancestral": K, "ddim": K}
    assert c["features"]["_target_"].endswith(".InceptionExtractor")
    assert c["features"]["split"] == "train"


def test_the_two_networks_on_cifar10_are_trained_on_by_the_loss_that_they_are_of() -> None:
    losses = {name: composed(name)["pretrain"]["loss"]["_target_"].rpartition(".")[2] for name in PUBLISHED}
    assert [*losses.values()] == ["SimpleLoss", "VlbLoss", "HybridLoss", "HybridLoss"]


def test_the_two_networks_on_cifar10_are_judged_alike() -> None:
    """Where nothing is trained, a run of one shows what a run of the other does."""
    vlb, hybrid = (composed(f"watson_cifar10_{name}") for name in ("vlb", "hybrid"))
    assert (vlb.pop("name"), hybrid.pop("name")) == ("watson_cifar10_vlb", "watson_cifar10_hybrid")
    for settings in (vlb, hybrid):
        assert settings["pretrain"].pop("iterations") == 0
        settings["pretrain"].pop("loss")
    assert vlb == hybrid


def test_huangs_set_up_is_the_reconstruction() -> None:
    c = composed("huang_imagenet64")
    assert c["dataset"]["_target_"].endswith(".ImageNet64")
    assert (c["process"]["_target_"].rpartition(".")[2], c["model"]["image_size"]) == ("edm", 64)
    assert c["pretrain"]["iterations"] == 0
    searches = {"discretization_gradient", "discretization_dp"}
    assert {*c["schedule_optimizer"]} == searches | {"even", "karras", "tangent"}
    assert {*c["finetune"]["schedule_optimizer"]} == searches
    assert max(c["finetune"]["rounds"]) > 1
    assert c["finetune"]["steps"] == c["steps"] == c["evaluation"]["sample_steps"]["ddim"] == [4, 6, 8, 10]
    assert [*c["solver"]] == ["ddim"]
    assert (c["evaluation"]["samples"], len(c["evaluation"]["sample_seeds"])) == (50_000, 5)
