"""Readers of published checkpoints; the source code inside the files must not run, whatever is done to them."""

import random
import tempfile
from io import BytesIO
from pathlib import Path

import torch

from fewstep.backbones.checkpoints import edm, openai
from fewstep.backbones.song_unet import SongUNet
from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser
from fewstep.process import Process
from soak.checkpoints import edm_network, edm_pickle, edm_precond, marking, random_tensors
from soak.mutations import mutated_bytes
from soak.pickle_mutations import mutated_pickle

SIZE, T = 4, 20
NETWORK = {
    "image_size": SIZE,
    "in_channels": 3,
    "model_channels": 8,
    "channel_mult": [1],
    "num_res_blocks": 1,
    "attention_resolutions": [],
}


def _random(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return random_tensors({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})


def _check(denoiser: Denoiser) -> None:
    with torch.inference_mode():
        predicted = denoiser(torch.zeros(2, 3, SIZE, SIZE), denoiser.process.grid[-1]).x0
    assert predicted.shape == (2, 3, SIZE, SIZE), "a prediction of another shape"


class OpenAI:
    """`openai.load`: a state dict of improved-diffusion, in today's format and in the one before."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.pt"
        tensors = _random(UNet(**NETWORK, out_channels=6, num_heads=1))
        self.sound = []
        for zipped in (True, False):
            content = BytesIO()
            torch.save(tensors, content, _use_new_zipfile_serialization=zipped)
            self.sound.append(content.getvalue())

    def spoil(self, draw: random.Random) -> None:
        spoil = mutated_bytes if draw.random() < 0.7 else mutated_pickle
        self.path.write_bytes(spoil(draw.choice(self.sound), draw))

    def read(self) -> None:
        _check(
            openai.load(
                str(self.path),
                Process.cosine(T),
                timesteps=T,
                image_size=SIZE,
                in_channels=3,
                out_channels=6,
                model_channels=8,
                num_classes=None,
                rescale_timesteps=True,
                num_heads=1,
            )
        )


class Edm:
    """`edm.load`: DDPM++ with source code in its file that leaves a mark if it ever runs."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "network.pkl"
        self.marker = Path(tempfile.mkdtemp(dir=folder)) / "ran"
        source = marking(self.marker)
        arguments = {"img_resolution": SIZE, "in_channels": 3, "out_channels": 3, "model_channels": 8}
        arguments |= {"channel_mult": [1], "num_blocks": 1, "attn_resolutions": []}
        tensors = _random(SongUNet(**NETWORK, out_channels=3))
        outer = {"img_resolution": SIZE, "img_channels": 3, "model_type": "SongUNet"}
        ema = edm_precond(edm_network("SongUNet", tensors, arguments, source), outer, source)
        self.sound = [edm_pickle(ema, source, protocol) for protocol in (2, 3, 4, 5)]

    def spoil(self, draw: random.Random) -> None:
        spoil = mutated_bytes if draw.random() < 0.5 else mutated_pickle
        self.path.write_bytes(spoil(draw.choice(self.sound), draw))

    def read(self) -> None:
        try:
            _check(edm.load(str(self.path), Process.edm(T), image_size=SIZE))
        finally:
            assert not self.marker.exists(), "the source code in the file has run"
