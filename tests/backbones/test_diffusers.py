"""Models that diffusers saved: outputs and processes as diffusers itself has them, and what is refused."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from fewstep.__main__ import CONF, build
from fewstep.config import Config
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.schema import check
from fewstep.weights import load_model, save_model

diffusers = pytest.importorskip("diffusers", reason="needs pip install 'fewstep[diffusers]'")

from fewstep.backbones.diffusers_folder import load_diffusers  # noqa: E402
from fewstep.backbones.diffusers_scheduler import SCHEDULERS  # noqa: E402
from fewstep.backbones.diffusers_unet import DiffusersUNet  # noqa: E402

SHAPE = (3, 1, 8, 8)
SETTINGS: dict[str, Any] = {
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
LAWS: dict[str, Process] = {
    "linear": Process.linear(1000),
    "scaled_linear": Process.scaled_linear(1000, 1e-4, 0.02),
    "squaredcos_cap_v2": Process.cosine(1000),
}


def random_unet(**changes: Any) -> Any:
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(**{"sample_size": 8, "in_channels": 1, "out_channels": 1} | SETTINGS | changes)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return unet.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """(scheduler, changed arguments of the network) → a folder as diffusers writes it."""

    def save(scheduler: Any, **changes: Any) -> Path:
        random_unet(**changes).save_pretrained(tmp_path / "model")
        scheduler.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


def x_t() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("law", LAWS)
def test_the_process_is_the_schedulers_own(name: str, law: str, saved: Callable[..., Path]) -> None:
    scheduler = getattr(diffusers, name)(beta_schedule=law, beta_start=1e-4, beta_end=0.02)
    process = load_diffusers(str(saved(scheduler))).process
    assert process == LAWS[law]
    alpha_bar = process.alpha(process.grid[1:]).square()
    torch.testing.assert_close(alpha_bar, scheduler.alphas_cumprod.double(), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler"])
def test_zero_terminal_snr_is_the_schedulers_own(name: str, law: str, saved: Callable[..., Path]) -> None:
    settings = {"beta_schedule": law, "beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "v_prediction"}
    scheduler = getattr(diffusers, name)(**settings, rescale_betas_zero_snr=True)
    process = load_diffusers(str(saved(scheduler))).process
    assert process.zero_terminal_snr
    alpha_bar = process.alpha(process.grid[1:]).square()
    torch.testing.assert_close(alpha_bar[:-1], scheduler.alphas_cumprod[:-1].double(), rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("timestep", [0, 17, 999])
def test_x0_is_the_one_that_ddim_sees(prediction: str, timestep: int, saved: Callable[..., Path]) -> None:
    scheduler = diffusers.DDIMScheduler(prediction_type=prediction, clip_sample=False)
    denoiser = load_diffusers(str(saved(scheduler)))
    scheduler.set_timesteps(1000)
    with torch.no_grad():
        output = random_unet()(x_t(), torch.tensor(timestep)).sample
        expected = scheduler.step(output, timestep, x_t()).pred_original_sample
        found = denoiser(x_t(), denoiser.process.grid[timestep + 1]).x0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_fractions_of_a_timestep_reach_the_network(saved: Callable[..., Path]) -> None:
    """UNet2DModel truncates a Python float."""
    denoiser = load_diffusers(str(saved(diffusers.DDPMScheduler(prediction_type="sample"))))
    unet = random_unet()
    with torch.no_grad():
        found = denoiser(x_t(), torch.tensor(0.5005, dtype=torch.float64)).x0
        torch.testing.assert_close(found, unet(x_t(), torch.tensor(499.5)).sample, rtol=1e-5, atol=1e-6)
        assert torch.equal(unet(x_t(), 499.5).sample, unet(x_t(), 499).sample)
        assert not torch.allclose(found, unet(x_t(), 499).sample, rtol=1e-3)


def test_labels_reach_the_network(saved: Callable[..., Path]) -> None:
    denoiser = load_diffusers(str(saved(diffusers.DDPMScheduler(prediction_type="sample"), num_class_embeds=5)))
    assert isinstance(denoiser.backbone, DiffusersUNet)
    assert denoiser.backbone.num_classes == 5
    label, unet = torch.tensor([0, 4, 2]), random_unet(num_class_embeds=5)
    with torch.no_grad():
        found = denoiser(x_t(), torch.tensor(0.5, dtype=torch.float64), label).x0
        torch.testing.assert_close(found, unet(x_t(), torch.tensor(499), label).sample, rtol=1e-5, atol=1e-6)
        with pytest.raises(UserError, match="5 classes, but labels were not given"):
            denoiser(x_t(), torch.tensor(0.5, dtype=torch.float64))


def test_a_learned_variance_is_its_fraction(saved: Callable[..., Path]) -> None:
    scheduler = diffusers.DDPMScheduler(prediction_type="sample", variance_type="learned_range")
    prediction = load_diffusers(str(saved(scheduler, out_channels=2)))(x_t(), torch.tensor(0.5).double())
    with torch.no_grad():
        output = random_unet(out_channels=2)(x_t(), torch.tensor(499)).sample
    assert prediction.fraction is not None
    torch.testing.assert_close(prediction.fraction, (output[:, 1:] + 1) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("serialization", ["safetensors", "bin", "bin with the old names", "pipeline"])
def test_every_layout_has_the_same_weights(serialization: str, tmp_path: Path) -> None:
    unet, scheduler = random_unet(), diffusers.DDPMScheduler()
    if serialization == "pipeline":
        diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path)
        assert (tmp_path / "unet" / "config.json").exists()
    else:
        unet.save_pretrained(tmp_path, safe_serialization=serialization == "safetensors")
        scheduler.save_pretrained(tmp_path)
    if serialization == "bin with the old names":
        path = tmp_path / "diffusion_pytorch_model.bin"
        old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
        weights = torch.load(path, weights_only=True)
        for new_name, old_name in old.items():
            weights = {name.replace(new_name, old_name): tensor for name, tensor in weights.items()}
        assert "mid_block.attentions.0.query.weight" in weights
        torch.save(weights, path)
    loaded = load_diffusers(str(tmp_path)).backbone
    assert isinstance(loaded, DiffusersUNet)
    for name, tensor in unet.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[name], tensor), name


def test_it_is_saved_and_loaded_as_any_model(saved: Callable[..., Path], tmp_path: Path) -> None:
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    denoiser = load_diffusers(str(saved(scheduler)))
    save_model(tmp_path / "ours", denoiser, (1, 8, 8), 256)
    again = load_model(tmp_path / "ours")
    assert again.process == denoiser.process
    with torch.no_grad():
        for time in (0.001, 0.5, 1.0):
            t = torch.tensor(time, dtype=torch.float64)
            assert torch.equal(again(x_t(), t).x0, denoiser(x_t(), t).x0)


def test_the_log_says_what_was_recognised(saved: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_diffusers(str(saved(diffusers.DDPMScheduler())))
    for said in ("UNet2DModel: 1×8×8", "DDPMScheduler: Process.linear(T=1000", "epsilon", "clip_sample=True"):
        assert said in caplog.text


def test_another_process_is_told_what_to_set(saved: Callable[..., Path]) -> None:
    folder = str(saved(diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.001, beta_end=0.01)))
    own = Process.scaled_linear(1000, 0.001, 0.01)
    assert isinstance(load_diffusers(folder, own), Denoiser)
    wanted = (
        r"trained on Process.scaled_linear\(.*but process is Process.cosine\(.*set process=scaled_linear "
        r"process.T=1000 process.smallest_noise_level=null process.beta_first=0.001 process.beta_last=0.01\."
    )
    with pytest.raises(UserError, match=wanted):
        load_diffusers(folder, Process.cosine(1000, 1 / 16))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"trained_betas": [0.1, 0.2]}, "has trained_betas, which is not supported"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule='sigmoid'; allowed are linear, scaled_linear, squared"),
        ({"prediction_type": "flow_prediction"}, "prediction_type='flow_prediction'; allowed are epsilon, v_"),
        ({"_class_name": "KarrasVeScheduler"}, "scheduler is 'KarrasVeScheduler'; allowed are DDPMScheduler"),
        ({"rescale_betas_zero_snr": True}, "eps parameterisation divides by α"),
        ({"variance_type": "learned_range"}, "variance_type='learned_range', but the network predicts no"),
        ({"num_train_timesteps": 1}, "at least 2"),
    ],
)
def test_a_scheduler_that_is_not_known(settings: dict, sentence: str, saved: Callable[..., Path]) -> None:
    folder = saved(diffusers.DDPMScheduler())
    config = json.loads((folder / "scheduler_config.json").read_text())
    (folder / "scheduler_config.json").write_text(json.dumps(config | settings))
    with pytest.raises(UserError, match=f"diffusers model .*{sentence}"):
        load_diffusers(str(folder))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "describes a UNet2DConditionModel, no UNet2DModel"),
        ({"sample_size": [8, 16]}, r"sample_size is \[8, 16\]"),
        ({"sample_size": None}, "sample_size is None"),
        ({"out_channels": 3}, "neither an image nor"),
        ({"out_channels": 2}, "variance too, but the DDPMScheduler has variance_type='fixed_small'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type='fourier'"),
        ({"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        ({"down_blocks": 2}, "no setting 'down_blocks'"),
        ({"layers_per_block": 2}, "missing|cannot be loaded"),
    ],
)
def test_a_network_that_is_not_known(settings: dict, sentence: str, saved: Callable[..., Path]) -> None:
    changes = {"out_channels": 2} if settings.get("out_channels") == 2 else {}
    folder = saved(diffusers.DDPMScheduler(), **changes)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    with pytest.raises(UserError, match=f"diffusers model .*({sentence})"):
        load_diffusers(str(folder))


@pytest.mark.parametrize("fault", ["missing", "surplus", "NaN", "truncated", "absent", "code"])
def test_weights_that_do_not_fit(fault: str, saved: Callable[..., Path], capsys: pytest.CaptureFixture) -> None:
    folder = saved(diffusers.DDPMScheduler())
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    weights: dict[str, Any] = random_unet().state_dict()
    if fault == "missing":
        del weights["conv_in.bias"]
    elif fault == "surplus":
        weights["another.weight"] = torch.zeros(1)
    elif fault == "NaN":
        weights["conv_in.bias"] = weights["conv_in.bias"] * torch.nan
    elif fault == "code":
        weights["conv_in.bias"] = Payload()
    path = folder / "diffusion_pytorch_model.bin"
    if fault != "absent":
        torch.save(weights, path)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="diffusers model "):
        load_diffusers(str(folder))
    assert "the payload ran" not in capsys.readouterr().out


class Payload:
    def __reduce__(self) -> tuple:
        return print, ("the payload ran",)


def test_no_folder_is_no_download(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder google/ddpm-cifar10-32; .*model.hub=true"):
        load_diffusers("google/ddpm-cifar10-32")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no scheduler_config.json, nor scheduler/"):
        load_diffusers(str(tmp_path))


def test_a_name_is_found_in_the_cache_of_the_hub(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the layout of huggingface_hub's cache, without network."""
    import huggingface_hub.constants

    repository = tmp_path / "hub" / "models--somebody--digits"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "snapshots").mkdir()
    saved(diffusers.DDPMScheduler()).rename(repository / "snapshots" / ("a" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert load_diffusers("somebody/digits", hub=True).process == Process.linear(1000)
    with pytest.raises(UserError, match="nobody/nothing cannot be fetched"):
        load_diffusers("nobody/nothing", hub=True)


def test_images_of_another_shape_are_refused(saved: Callable[..., Path]) -> None:
    denoiser = load_diffusers(str(saved(diffusers.DDPMScheduler())))
    with pytest.raises(UserError, match="images of 1×8×8; given were 3×8×8"):
        denoiser(torch.zeros(1, 3, 8, 8), torch.tensor(0.5, dtype=torch.float64))


def test_the_configuration_builds_it_and_names_both_processes(saved: Callable[..., Path]) -> None:
    def built(*overrides: str) -> Any:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = OmegaConf.to_container(hydra.compose("config", [*overrides]), resolve=True)
        check(composed, Config)
        return build(composed["model"])

    model = ["model=diffusers", f"model.path={saved(diffusers.DDPMScheduler())}"]
    with pytest.raises(UserError, match=r"Process.linear\(.*Process.cosine\(") as told:
        built(*model)
    overrides = str(told.value).partition("; set ")[2].rstrip(".").split()
    assert built(*model, *overrides).process == Process.linear(1000)
    with pytest.raises(UserError, match=r"model\.path must be given"):
        built("model=diffusers")
