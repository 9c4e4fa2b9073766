"""The free equilibrium as a function that torch can differentiate, for any loss and transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from relaxon.implicit import DerivativeVerdict, ImplicitOptions, implicit
from relaxon.implicit.modules import with_parameters
from relaxon.neuromorphic.equilibrium.networks.network import Network
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases


def equilibrium_state(
    network: Network,
    x: Tensor,
    phases: Phases | None = None,
    *,
    parameters: Mapping[str, Tensor] | None = None,
    options: ImplicitOptions | None = None,
    on_verdict: Callable[[DerivativeVerdict], object] | None = None,
) -> Tensor:
    """Return the free equilibrium `(batch, units)`, differentiable in the input and in the network's parameters.

    Use `gradient` for the gradient of the network's own loss, and this for any other function of the state and for
    `torch.func.grad`, `jvp` and `vmap`. The derivative is that of the equilibrium: no step of the relaxation is
    recorded.

    Parameters
    ----------
    x : `(batch, …)` in the network's dtype, finite.
    phases : the relaxer of the free phase, without noise; at most 500 plain steps by default.
    parameters : tensors that replace the network's parameters, by their names; for transforms of `torch.func`.
    options, on_verdict : as for `relaxon.implicit.implicit`.

    Raises
    ------
    TypeError, ValueError : naming the argument, before the relaxation.
    DerivativeError : by a derivative at a state that did not converge.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import FixedStep, LayeredNetwork, Phases, equilibrium_state
    >>> network = LayeredNetwork((4, 8, 3), dtype=torch.float64)
    >>> x = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    >>> named = {name: one.detach() for name, one in network.named_parameters()}
    >>> def size(parameters):
    ...     return equilibrium_state(network, x, parameters=parameters).square().sum()
    >>> sorted(torch.func.grad(size)(named))[:2]
    ['biases.0', 'biases.1']
    """
    phases = phases or Phases()
    if phases.noise:
        raise ValueError("phases must have no noise for a derivative, got noise")
    if parameters is not None:
        missing = {name for name, _ in network.named_parameters()} ^ set(parameters)
        if missing:
            raise ValueError(f"parameters must have the names of the network's, got a difference in {sorted(missing)}")

    def relax(start: None, network: Network, x: Tensor) -> Tensor:
        drive = network.drive(network.validate_input(x))
        return phases.free.relax(network.free_field(drive), network.start(drive)).state

    def field(state: Tensor, network: Network, x: Tensor) -> Tensor:
        return network.field(state, network.drive(x))

    module = network if parameters is None else with_parameters(network, parameters)
    state: Tensor = implicit(relax, field, options=options, batch_dims=1, on_verdict=on_verdict)(None, module, x)
    return state
