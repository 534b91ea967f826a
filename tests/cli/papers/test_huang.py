"""Huang 2024, as reconstructed: the experiment at small size from EDM's file to the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from soak.checkpoints import edm_network, edm_pickle, edm_precond, random_tensors
from tests.edm_layout import adm_shapes


def edm_checkpoint(folder: Path) -> Path:
    """EDM's file for ImageNet64 with a thin network of random weights in it."""
    arguments = {"img_resolution": 64, "in_channels": 3, "out_channels": 3, "label_dim": 1000, "model_channels": 8}
    # The last level has the 64 channels of one head.
    arguments |= {"channel_mult": [1, 1, 1, 8], "num_blocks": 1, "attn_resolutions": []}
    tensors = random_tensors(adm_shapes(arguments))
    for name, tensor in tensors.items():
        if name.endswith("resample_filter"):
            tensor.fill_(0.25)
    outer = {"img_resolution": 64, "img_channels": 3, "label_dim": 1000, "model_type": "DhariwalUNet"}
    path = folder / "edm-imagenet-64x64-cond-adm.pkl"
    path.write_bytes(edm_pickle(edm_precond(edm_network("DhariwalUNet", tensors, arguments, ""), outer, ""), ""))
    return path


def test_imagenet64(results: Callable[..., Any], imagenet64: Path, tmp_path: Path) -> None:
    small = [
        "process.T=12",
        "steps=[4]",
        "dataset.validation=4",
        "statistics.images=2",
        "evaluation.sample_seeds=[0]",
        "finetune.schedule_optimizer=discretization_gradient",
        "finetune.steps=4",
        "finetune.rounds=[1,2]",
        "finetune.iterations=2",
        "finetune.warmup=0",
        "finetune.batch_size=4",
        "finetune.validate_every=2",
        "schedule_optimizer.discretization_gradient.search.iterations=2",
        "schedule_optimizer.discretization_gradient.search.batch_size=4",
        "schedule_optimizer.discretization_gradient.search.descents=1",
        "schedule_optimizer.discretization_gradient.search.starts=[even,dp]",
    ]
    rows = results("huang_imagenet64", edm_checkpoint(tmp_path), imagenet64, *small)
    searches = ("discretization_dp", "discretization_gradient")
    alternated = "discretization_gradient_rounds2"
    fid = rows[(rows.metric == "fid_imagenet64") & rows.steps.notna()]
    assert {*fid.solver} == {"ddim"}
    assert {*fid[~fid.finetuned.astype(bool)].schedule_optimizer} == {"even", "karras", "tangent", *searches}
    assert "discretization_gradient" in {*fid[fid.finetuned.astype(bool)].schedule_optimizer}
    assert {*rows.schedule_optimizer.dropna()} >= {*searches, alternated}
