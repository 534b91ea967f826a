"""Negative log-likelihoods of Bao et al. 2022, Analytic-DPM, in bits/dim."""

from fewstep.report.papers.line import Method
from fewstep.report.papers.network import Network
from fewstep.report.papers.paper_table import BITS_PER_DIM, PaperTable

VARIANCES = ("beta", "optimal")
BITS_ALONE = (
    "stage=evaluate evaluation.variances=[beta,optimal] evaluation.decoders=[additive] "
    "'evaluation.sample_steps={ancestral:[],ddim:[]}'"
)
CIFAR10_STEPS, IMAGENET64_STEPS = "'steps=[10,25,50,100,200,400]'", "'steps=[25,50,100,200,400,1000]'"
PATHS = "model.path=… dataset.path=…"


METHODS = {
    "ET, beta": Method("even", variance="beta"),
    "ET, optimal": Method("even", variance="optimal"),
    "OT, beta": Method("elbo_dp", variance="beta"),
    "OT, optimal": Method("elbo_dp", variance="optimal"),
}
NETWORKS = {
    "CIFAR-10, linear": Network(
        dataset="cifar10",
        process={"name": "linear", "T": 1000},
        loss="simple",
        variances=VARIANCES,
        command=f"experiment=watson_cifar10_simple name=analytic_dpm_linear {CIFAR10_STEPS} {BITS_ALONE} {PATHS}",
    ),
    "CIFAR-10, cosine": Network(
        dataset="cifar10",
        process={"name": "cosine", "T": 1000},
        loss="simple",
        variances=VARIANCES,
        command=f"experiment=watson_cifar10_simple process=cosine name=analytic_dpm_cosine {CIFAR10_STEPS} "
        f"{BITS_ALONE} {PATHS}",
    ),
    "ImageNet 64×64": Network(
        dataset="imagenet64",
        process={"name": "cosine", "T": 4000},
        loss="hybrid",
        variances=VARIANCES,
        command=f"experiment=watson_imagenet64_hybrid name=analytic_dpm_imagenet64 {IMAGENET64_STEPS} "
        f"variance=beta statistics.images=null {BITS_ALONE} {PATHS}",
    ),
}


class AnalyticDpmBitsPerDim(PaperTable):
    """Even and optimal trajectories under two variance kinds, on few steps up to the whole grid."""

    name = "analytic_dpm_bits_per_dim"
    title = "Bao et al. 2022, Analytic-DPM: bits/dim"
    metric = BITS_PER_DIM
    methods = METHODS
    networks = NETWORKS
