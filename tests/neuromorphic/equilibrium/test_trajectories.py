"""Gradients of trajectories' costs without an adjoint, against autograd through time and differences."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.equilibrium.estimators.trajectories import TrajectoryProblem  # noqa: E402

UNITS, STEPS, STEP = 2, 24, 0.06


class Pendulums(torch.nn.Module):
    """Coupled pendulums that an input pushes: `L = ½|v|² + a·cos q − ½ q·K q + x·q`."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[0.6, 0.3], [-0.2, 0.5]], dtype=torch.float64))
        self.pull = torch.nn.Parameter(torch.tensor([0.7, 1.1], dtype=torch.float64))

    def forward(self, q, velocity, x):
        kinetic = 0.5 * velocity.square().sum(-1)
        return kinetic + (torch.cos(q) @ self.pull) - 0.5 * ((q @ self.weight) * q).sum(-1) + (x * q).sum(-1)


def problem(ends=None):
    time = torch.arange(STEPS, dtype=torch.float64)[:, None] * STEP
    turn = 2 * torch.pi / (STEPS * STEP)
    drive = torch.cat([torch.cos(turn * time), torch.sin(2 * turn * time)], -1)
    target = 0.3 * torch.cat([torch.sin(turn * time), torch.cos(turn * time)], -1)
    cost = lambda q, y: 0.5 * (q - y).square().sum(-1)  # noqa: E731
    return TrajectoryProblem(Pendulums(), cost, drive, target, UNITS, STEP, ends)


def shot(one, first, second, x):
    """Integrate the discrete equations of motion from two positions on; `x` is the input at each position after."""
    path = [first, second]
    for k in range(len(x)):
        q = path[-1]
        force = torch.func.grad(lambda r, k=k: one.lagrangian(r[None], torch.zeros_like(r)[None], x[k][None]).sum())(q)
        path.append(2 * q - path[-2] + STEP**2 * force)
    return torch.stack(path)


def test_a_held_trajectory_s_gradient_is_that_of_autograd_through_time():
    ends = (torch.tensor([0.2, -0.1], dtype=torch.float64), torch.tensor([0.4, 0.3], dtype=torch.float64))
    one = problem(ends)
    found = one.gradient(beta=1e-3)
    assert found.converged
    # Shooting: the second position is the one from which the last is met; it depends on the parameters as well.
    second = found.trajectory[0].clone().requires_grad_()
    path = shot(one, ends[0], second, one.drive)
    assert torch.allclose(path[1:-1], found.trajectory, atol=1e-8)
    assert torch.allclose(path[-1], ends[1], atol=1e-8)
    parameters = list(one.lagrangian.parameters())
    cost = one.total_cost(path[1:-1])
    by_second = torch.autograd.grad(cost, second, retain_graph=True)[0]
    meets = torch.stack([torch.autograd.grad(path[-1, i], second, retain_graph=True)[0] for i in range(UNITS)])
    multiplier = torch.linalg.solve(meets.T, by_second)
    exact = torch.autograd.grad(cost - path[-1] @ multiplier, parameters)
    for ours, theirs in zip(found.gradients.values(), exact, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_periodic_trajectory_s_gradient_is_the_limit_of_differences():
    one = problem()
    coarse, found = one.gradient(beta=4e-3), one.gradient(beta=1e-3)
    assert found.converged
    errors = []
    for measured in (coarse, found):
        apart = 0.0
        for name, parameter in one.lagrangian.named_parameters():
            for place in range(parameter.numel()):
                costs = []
                for sign in (1, -1):
                    with torch.no_grad():
                        parameter.view(-1)[place] += sign * 1e-4
                        costs.append(float(one.total_cost(one.solve(0.0, found.trajectory)[0])))
                        parameter.view(-1)[place] -= sign * 1e-4
                apart = max(apart, abs((costs[0] - costs[1]) / 2e-4 - float(measured.gradients[name].view(-1)[place])))
        errors.append(apart)
    assert errors[1] < 1e-5 * max(float(g.abs().max()) for g in found.gradients.values())
    assert errors[1] < errors[0]


def test_what_is_no_problem_is_refused_and_what_has_no_solution_says_so():
    one = problem()
    with pytest.raises(ValueError, match=r"^target must be finite float64 of 24 steps"):
        TrajectoryProblem(one.lagrangian, one.cost, one.drive, one.target[1:], UNITS, STEP)
    with pytest.raises(ValueError, match=r"^ends\[0\] must be"):
        TrajectoryProblem(one.lagrangian, one.cost, one.drive, one.target, UNITS, STEP, (one.drive[0, :1],) * 2)
    with pytest.raises(ValueError, match="^beta"):
        one.gradient(beta=0.0)

    class Free(torch.nn.Module):
        """A particle that a constant force pushes has no periodic trajectory."""

        def __init__(self):
            super().__init__()
            self.force = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, q, velocity, x):
            return (0.5 * velocity.square() + self.force * q).sum(-1)

    lost = TrajectoryProblem(Free(), one.cost, one.drive, one.target, UNITS, STEP).gradient()
    assert not lost.converged
