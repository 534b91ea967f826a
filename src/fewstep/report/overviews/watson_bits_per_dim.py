"""Bits/dim of Watson et al. 2021."""

from fewstep.report.papers.line import Method
from fewstep.report.papers.network import Network
from fewstep.report.papers.paper_table import BITS_PER_DIM, PaperTable

NETWORKS = {
    "CIFAR-10, L_simple": Network(
        dataset="cifar10",
        process={"name": "linear", "T": 1000},
        loss="simple",
        variances=("posterior", "beta"),
        command="experiment=watson_cifar10_simple model.path=… dataset.path=…",
    ),
    "CIFAR-10, L_vlb": Network(
        dataset="cifar10",
        process={"name": "cosine", "T": 4000},
        loss="vlb",
        variances=("learned",),
        command="experiment=watson_cifar10_vlb model.path=… dataset.path=…",
    ),
    "CIFAR-10, L_hybrid": Network(
        dataset="cifar10",
        process={"name": "cosine", "T": 4000},
        loss="hybrid",
        variances=("learned",),
        command="experiment=watson_cifar10_hybrid model.path=… dataset.path=…",
    ),
    "ImageNet 64×64, L_hybrid": Network(
        dataset="imagenet64",
        process={"name": "cosine", "T": 4000},
        loss="hybrid",
        variances=("learned",),
        command="experiment=watson_imagenet64_hybrid model.path=… dataset.path=…",
    ),
}
METHODS = {"even": Method("even"), "quadratic": Method("quadratic"), "DP": Method("elbo_dp")}


class WatsonBitsPerDim(PaperTable):
    """Fixed strides and dynamic programming over the ELBO, K = 8 … 256 and the whole grid."""

    name = "watson_bits_per_dim"
    title = "Watson et al. 2021: bits/dim"
    metric = BITS_PER_DIM
    networks = NETWORKS
    methods = METHODS
