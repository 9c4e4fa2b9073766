"""The free equilibrium as a function that torch differentiates, for losses and transforms of any kind."""

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

    `gradient` measures the gradient of the network's own loss; this is for any other function of the state, and for
    `torch.func.grad`, `jvp` and `vmap`. Only where it comes to rest counts: no step of the relaxation is recorded.

    Parameters
    ----------
    x : `(batch, …)` in the network's dtype, finite.
    phases : the relaxer of the free phase; 500 plain steps with early stop by default. No noise.
    parameters : tensors in the place of the network's parameters, by their names: what `torch.func` transforms.
    options, on_verdict : of the derivatives, as `relaxon.implicit.implicit` takes them.

    Raises
    ------
    TypeError, ValueError : naming the argument, before the relaxation. DerivativeError: from a derivative at a state
        that did not come to rest.

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
        raise ValueError("phases must be without noise for a derivative, got noise")
    if parameters is not None:
        missing = {name for name, _ in network.named_parameters()} ^ set(parameters)
        if missing:
            raise ValueError(f"parameters must be those of the network, got a difference in {sorted(missing)}")

    def relax(start: None, network: Network, x: Tensor) -> Tensor:
        drive = network.drive(network.validate_input(x))
        return phases.free.relax(network.free_field(drive), network.start(drive)).state

    def field(state: Tensor, network: Network, x: Tensor) -> Tensor:
        return network.field(state, network.drive(x))

    module = network if parameters is None else with_parameters(network, parameters)
    state: Tensor = implicit(relax, field, options=options, batch_dims=1, on_verdict=on_verdict)(None, module, x)
    return state
