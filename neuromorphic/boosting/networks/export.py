"""Export of the merged network as a torch module or an ONNX graph."""
# Imported on first use, for their weight: onnx, torch.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.extras import require
from relaxon.neuromorphic.boosting.networks.merged import FARTHEST, MergedNetwork

if TYPE_CHECKING:
    import torch

Places = NDArray[np.int64]
NO_COLUMNS: Places = np.empty(0, np.int64)

ONNX_OPSET = 17
ONNX_IR = 8
"""Version of the file format that belongs to that operator set; runtimes since 2022 support it."""


def to_torch(network: MergedNetwork, indicated: Places = NO_COLUMNS) -> torch.nn.Module:
    """Return a module from float64 inputs `(n, d)` to the outputs before the link `(n, K)`; it can be fine-tuned."""
    require(("torch",), "to_torch()")
    import torch

    class Merged(torch.nn.Module):
        shift: torch.Tensor
        scale: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.tensor(network.shift))
            self.register_buffer("scale", torch.tensor(network.scale))
            self.hidden = torch.nn.ModuleList()
            for layer in network.layers:
                self.hidden.append(_linear(layer.weights, layer.bias))
            self.output = _linear(network.output_weights.T, network.biases[-1])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(indicated):
                x = torch.cat([x, torch.isnan(x[:, indicated]).to(x.dtype)], dim=1)
            z = torch.nan_to_num(((x - self.shift) * self.scale).clamp(-FARTHEST, FARTHEST), nan=0.0)
            activations = []
            for hidden in self.hidden:
                activations.append(torch.sigmoid(hidden(z)))
                z = torch.cat([z, 2.0 * activations[-1] - 1.0], dim=1)
            h = torch.cat(activations, dim=1) if activations else x.new_zeros((len(x), 0))
            raw: torch.Tensor = self.output(h)
            return raw

    def _linear(weights: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> torch.nn.Module:
        # The discarded initial weights must not consume the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            linear = torch.nn.Linear(weights.shape[1], weights.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(np.ascontiguousarray(weights)))
            linear.bias.copy_(torch.tensor(bias))
        return linear

    return Merged()


def to_onnx(network: MergedNetwork, link: str, indicated: Places = NO_COLUMNS) -> Any:
    """Return a validated `onnx.ModelProto` with input `X` (n, d) float64 and output `prediction` or `probabilities`.

    `link` is "identity", "exp", "logistic" (two probabilities from one logit) or "softmax".
    """
    require(("onnx",), "to_onnx()")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, inputs: list[str], output: str, axis: int | None = None) -> str:
        made = helper.make_node(kind, inputs, [output])
        if axis is not None:
            made.attribute.append(helper.make_attribute("axis", axis))
        nodes.append(made)
        return output

    inputs = "X"
    if len(indicated):
        places = constant("indicated", np.asarray(indicated, np.int64))
        absent = node("IsNaN", [node("Gather", ["X", places], "looked_at", axis=1)], "is_missing")
        indicators = node("Where", [absent, constant("yes", np.ones(1)), constant("no", np.zeros(1))], "indicators")
        inputs = node("Concat", ["X", indicators], "inputs", axis=1)
    centred = node("Sub", [inputs, constant("shift", network.shift)], "centred")
    scaled = node("Mul", [centred, constant("scale", network.scale)], "scaled")
    # How Clip treats NaN depends on the runtime, so missing inputs are replaced first.
    absent = node("IsNaN", [scaled], "absent")
    present = node("Where", [absent, constant("zero", np.zeros(1)), scaled], "present")
    limits = [constant("nearest", np.array(-FARTHEST)), constant("farthest", np.array(FARTHEST))]
    z = node("Clip", [present, *limits], "features_0")
    hidden = []
    for index, layer in enumerate(network.layers):
        weights, bias = constant(f"weights_{index}", layer.weights.T), constant(f"bias_{index}", layer.bias)
        hidden.append(node("Sigmoid", [node("Gemm", [z, weights, bias], f"sums_{index}")], f"units_{index}"))
        if index + 1 < len(network.layers):
            doubled = node("Mul", [hidden[-1], _add_constant(constant, "two", 2.0, index)], f"doubled_{index}")
            spread = node("Sub", [doubled, _add_constant(constant, "one", 1.0, index)], f"spread_{index}")
            z = node("Concat", [z, spread], f"features_{index + 1}", axis=1)
    if hidden:
        units = node("Concat", hidden, "units", axis=1)
        output = [constant("output_weights", network.output_weights), constant("output_bias", network.biases[-1])]
        raw = node("Gemm", [units, *output], "raw")
    else:
        none = node("MatMul", [z, constant("none", np.zeros((len(network.shift), network.outputs)))], "none_seen")
        raw = node("Add", [none, constant("output_bias", network.biases[-1])], "raw")
    name = _add_link(node, raw, link)
    columns = 2 if link == "logistic" else network.outputs
    graph = helper.make_graph(
        nodes,
        "relaxon_boosted_network",
        [helper.make_tensor_value_info("X", TensorProto.DOUBLE, ["n", len(network.shift) - len(indicated)])],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", columns])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", ONNX_OPSET)], producer_name="relaxon")
    model.ir_version = ONNX_IR
    onnx.checker.check_model(model, full_check=True)
    return model


def _add_constant(constant: Any, name: str, value: float, index: int) -> str:
    made: str = constant(f"{name}_{index}", np.array(value))
    return made


def _add_link(node: Any, raw: str, link: str) -> str:
    if link == "softmax":
        return str(node("Softmax", [raw], "probabilities", axis=1))
    if link == "logistic":
        second = node("Sigmoid", [raw], "second")
        first = node("Sigmoid", [node("Neg", [raw], "negated")], "first")
        return str(node("Concat", [first, second], "probabilities", axis=1))
    return str(node("Exp" if link == "exp" else "Identity", [raw], "prediction"))
