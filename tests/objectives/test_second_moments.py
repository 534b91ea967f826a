"""A few numbers in place of a teacher's many: the same second moments, direction by direction."""

import torch

from fewstep.objectives.euler_steps import Carried
from fewstep.objectives.second_moments import GROUPS, SecondMoments
from fewstep.process import Process
from fewstep.statistics.covariance import DataCovariance, MeasuredCovariance
from fewstep.statistics.teacher_trajectories import TeacherTrajectories


def test_carried_combinations_have_the_same_second_moments() -> None:
    """Of many directions, which are grouped, and of few, which are not."""
    process, M, n = Process.edm(40), 6, 50
    for D, accuracy in ((6, 1e-9), (2 * GROUPS, 2e-2)):
        draw = torch.Generator().manual_seed(D)
        basis, _ = torch.linalg.qr(torch.randn(D, D, generator=draw, dtype=torch.float64))
        c = torch.logspace(-2, 0.5, D, dtype=torch.float64)
        data = DataCovariance(torch.zeros(D), c.square(), basis)
        covariance = MeasuredCovariance(process=process, data=data, n_images=9, split="train")
        made = torch.randn(M, n, 1, 1, D, generator=draw)
        teacher = TeacherTrajectories(
            process=process, indices=[0, 5, 10, 20, 25, 30, 40], D=made, levels=17, split="train", seed=0
        )
        carried = Carried({"covariance": covariance}, "some", D)
        moments = SecondMoments.of(teacher, carried)
        rotated = made.double().flatten(2) @ basis
        for sigma in (0.0, 0.1, 3.0):
            level = torch.tensor(sigma, dtype=torch.float64)
            one, two = torch.randn(2, M, generator=draw, dtype=torch.float64)
            first = torch.einsum("m,mnd->nd", one, rotated) * carried.factors(level)
            second = torch.einsum("m,mnd->nd", two, rotated)
            expected = (first * second).sum(1).mean()
            found = ((one @ moments.D) * moments.factors(level)) @ (two @ moments.D)
            scale = (first.square().sum(1).mean() * second.square().sum(1).mean()).sqrt()
            assert abs(found - expected) < accuracy * scale
