"""SPICE netlists of layered networks, whose operating point is the network's free equilibrium.

A rate of 1 is 1 V and a weight of 1 is `unit_conductance` siemens. Each unit consists of four parts:

- a node `u` with a resistor of `1/(unit_conductance·|w|)` ohms from every unit that drives it: from that unit's node
`p`
  at `+r` volts where the weight is positive, and from its node `n` at `−r` volts where it is negative. The bias is a
  resistor from a rail of +1 or −1 V;
- a resistor to ground where the conductance `Σ|w|` of the others (in units) is below 1, so that the total is
  `s = max(1, Σ|w|)`. By Kirchhoff's current law the node is then at `(Σ w r + b) / s` volts, the state divided by `s`;
- a behavioural source `φ(s · V(u))` at `p`: the activation, with a gain that compensates for the division;
- a source of gain −1 at `n`.

A tied weight appears twice, as a forward and a backward resistor of the same value: sources decouple the units, so no
current flows from one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork

UNIT_CONDUCTANCE = 1e-5
"""Conductance of a weight of 1 in siemens: 100 kΩ."""
EXPRESSIONS = {
    "sigmoid": "1/(1+exp(2-4*({u})))",
    "dsilu": "(1+({u})*(1-1/(1+exp(-({u})))))/(1+exp(-({u})))",
    "tanh": "tanh({u})",
    "identity": "{u}",
    "hard-sigmoid": "min(max({u},0),1)",
    "relu6": "min(max({u},0),6)",
    "relu": "max({u},0)",
}
"""The activations as expressions of behavioural sources; `u` is the state in volts."""
OPTIONS = ".options reltol=1e-9 vntol=1e-12 abstol=1e-15 gmin=1e-20 itl1=500"
"""Accurate enough to compare voltages with rates; `gmin` is far below the conductance of any weight."""

Array = NDArray[np.float64]


def write_netlist(
    network: LayeredNetwork, x: ArrayLike, path: Path | str, *, unit_conductance: float = UNIT_CONDUCTANCE
) -> None:
    """Write the netlist of a network with tied weights whose input is `x` `(sizes[0],)`, in volts.

    The nodes are `p0_3` and `n0_3` for the fourth input, `u1_3`, `p1_3` and `n1_3` for the fourth unit of the first
    layer, and `z_3` for the fourth logit. TypeError or ValueError naming the argument for a network that is not
    layered, that has independent feedback, or whose weights are not finite.

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from relaxon.neuromorphic.equilibrium import LayeredNetwork, operating_point, read_netlist, write_netlist
    >>> network = LayeredNetwork((2, 3, 2), dtype=torch.float64)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_netlist(network, [0.2, 0.7], Path(folder) / "network.cir")
    ...     found = operating_point(read_netlist(Path(folder) / "network.cir"))
    >>> found.converged, sorted(found.voltages)[-2:]
    (True, ['z_0', 'z_1'])
    """
    Path(path).write_text(format_netlist(network, x, unit_conductance=unit_conductance), encoding="ascii")


def format_netlist(network: LayeredNetwork, x: ArrayLike, *, unit_conductance: float = UNIT_CONDUCTANCE) -> str:
    """Return the text that `write_netlist` writes; the same arguments and errors."""
    values = _validate(network, x)
    unit = validation.positive_float("unit_conductance", unit_conductance)
    return "\n".join(_cards(network, values, unit)) + "\n"


def _validate(network: LayeredNetwork, x: ArrayLike) -> Array:
    if type(network) is not LayeredNetwork:
        raise TypeError(f"network must be a LayeredNetwork, got {type(network).__name__}")
    if network.feedback != "tied":
        raise ValueError(f"network must have tied feedback, got {network.feedback!r}")
    if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
        raise ValueError("network must have finite weights, got NaN or infinite ones")
    values = validation.real_array("x", x)
    if values.shape != (network.sizes[0],):
        raise ValueError(f"x must be ({network.sizes[0]},), got shape {values.shape}")
    return values.astype(np.float64)


def _cards(network: LayeredNetwork, x: Array, unit: float) -> Iterator[str]:
    weights, biases = (
        [parameter.detach().cpu().double().numpy() for parameter in group]
        for group in (network.weights, network.biases)
    )
    layers = len(network.layers)
    yield f"* Layered network {'-'.join(map(str, network.sizes))}, activation {network.activation.name}, tied weights"
    yield f"* A rate of 1 is 1 V; a weight of 1 is {unit:g} S, a resistor of {1 / unit:g} ohm."
    yield "* Rf: forward, Rb: back (the same value), Rc: from the rail of the biases, Rg: to ground."
    yield OPTIONS
    yield from _rail("pb", "nb", 1.0)
    for place, value in enumerate(x):
        yield from _rail(f"p0_{place}", f"n0_{place}", value)
    expression = EXPRESSIONS[network.activation.name]
    for n in range(1, layers + 1):
        above = weights[n] if n < layers else None
        for unit_place in range(network.sizes[n]):
            name = f"{n}_{unit_place}"
            listened = [(f"Rf{name}", f"{n - 1}", weights[n - 1][unit_place])]
            if above is not None:
                listened.append((f"Rb{name}", f"{n + 1}", above[:, unit_place]))
            gain = _gain(listened, biases[n - 1][unit_place])
            yield from _node(f"u{name}", name, listened, biases[n - 1][unit_place], gain, unit)
            yield f"Bp{name} p{name} 0 V={expression.format(u=f'{gain!r}*V(u{name})')}"
            yield f"En{name} n{name} 0 p{name} 0 -1"
    if network.loss_name != "squared":
        for place in range(network.sizes[-1]):
            listened = [(f"Rfz_{place}", f"{layers}", weights[-1][place])]
            gain = _gain(listened, biases[-1][place])
            yield from _node(f"y_{place}", f"z_{place}", listened, biases[-1][place], gain, unit)
            yield f"Ez_{place} z_{place} 0 y_{place} 0 {gain!r}"
    yield ".op"
    yield ".end"


Listened = list[tuple[str, str, Array]]
"""For each layer that drives a unit: the prefix of its resistors' names, the layer, and the weights."""


def _rail(positive: str, negative: str, volts: float) -> Iterator[str]:
    yield f"V{positive} {positive} 0 DC {float(volts)!r}"
    yield f"V{negative} {negative} 0 DC {-float(volts)!r}"


def _gain(listened: Listened, bias: float) -> float:
    return max(1.0, math.fsum(float(np.abs(weights).sum()) for _, _, weights in listened) + abs(float(bias)))


def _node(node: str, name: str, listened: Listened, bias: float, gain: float, unit: float) -> Iterator[str]:
    """Yield the cards of the resistors that lead to a node."""
    total = abs(float(bias))
    for prefix, layer, weights in listened:
        for place, weight in enumerate(weights.tolist()):
            if weight:
                source = f"{'p' if weight > 0 else 'n'}{layer}_{place}"
                yield f"{prefix}_{place} {source} {node} {1 / (unit * abs(weight))!r}"
        total += float(np.abs(weights).sum())
    if bias:
        yield f"Rc{name} {'pb' if bias > 0 else 'nb'} {node} {1 / (unit * abs(float(bias)))!r}"
    if total < gain:
        yield f"Rg{name} {node} 0 {1 / (unit * (gain - total))!r}"
