"""FID of Watson et al. 2021."""

from fewstep.report.overviews.watson_bits_per_dim import NETWORKS
from fewstep.report.papers.line import Method
from fewstep.report.papers.paper_table import PaperTable

DDIM = {"eta": 0.0}


METHODS = {
    "even DDPM": Method("even", "ancestral"),
    "quadratic DDPM": Method("quadratic", "ancestral"),
    "even DDIM": Method("even", "ddim", DDIM),
    "quadratic DDIM": Method("quadratic", "ddim", DDIM),
    "DP": Method("elbo_dp", "ancestral"),
    "DP, MSE reweighting": Method("mse_reweighted_dp", "ancestral"),
}


class WatsonFid(PaperTable):
    """Fixed strides under two samplers, and dynamic programming over the ELBO and over reweighted errors."""

    name = "watson_fid"
    title = "Watson et al. 2021: FID"
    metric = "fid_inception"
    methods = METHODS
    networks = NETWORKS
