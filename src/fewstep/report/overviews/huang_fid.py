"""The claim of Huang 2024, of which no figure is public, beside a reconstruction of it."""

from fewstep.report.overviews.watson_fid import DDIM
from fewstep.report.papers.line import IN_TURN, ONCE, Method
from fewstep.report.papers.network import Network
from fewstep.report.papers.paper_table import PaperTable

PAIR = "discretization_gradient"


METHODS = {
    "baseline: Karras, Euler": Method("karras", "ddim", DDIM),
    "phase 1: the schedule": Method(PAIR, "ddim", DDIM),
    "phase 2: the model, once": Method(PAIR, "ddim", DDIM, tuning=ONCE),
    "both phases in turn": Method(PAIR, "ddim", DDIM, tuning=IN_TURN),
}
NETWORKS = {
    "ImageNet 64×64": Network(
        dataset="imagenet64",
        process={"name": "edm", "sigma_max": 80.0},
        loss="simple",
        variances=(),
        command="experiment=huang_imagenet64 'steps=[3,4,5,6,7,8,9,10]' model.path=… dataset.path=…",
    )
}


class HuangFid(PaperTable):
    """A first-order solver on ImageNet 64×64: the baseline, and the two phases, alone and in turn."""

    name = "huang_fid"
    title = "Huang 2024: FID on ImageNet 64×64, reconstructed"
    metric = "fid_inception"
    methods = METHODS
    networks = NETWORKS
