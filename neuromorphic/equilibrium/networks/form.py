"""The form of a network, as the classifier's parameters and the training command's options describe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.convolutional import ConvolutionalNetwork
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.residual import KERNEL, ResidualNetwork
from relaxon.neuromorphic.equilibrium.networks.storage import StoredNetwork

DEFAULT_BOUNDS = {"layered": (0.9, 4.0), "convolutional": (3.0, 4.0), "residual": (0.95, 8.0)}
"""Default bounds on the norms of the coupling and of the readout. For convolutions the first bound covers the worst of
all states, and the states met in training are far from it: at 3, two layers come to rest in every batch and learn
better than under a smaller bound. The coupling of residual networks is linear, so their bound is nearly tight."""
CONVOLUTION_INPUT_GAIN = 4.0
"""Gain of a convolutional network's first kernels: they see neighbouring pixels, which are much alike."""


@dataclass(frozen=True, slots=True)
class NetworkForm:
    """Which network to build; the fields are those of `EquilibriumClassifier` with the same names.

    `input_gain` applies to layered networks only.
    """

    hidden_sizes: Sequence[int]
    channels: Sequence[int] | None
    kernel: int
    activation: str
    feedback: str
    angle: float
    gain: float
    loss: str
    tau: float
    binary: bool
    binarizer: str
    residual: bool
    input_gain: float = 1.0

    @property
    def kind(self) -> Literal["layered", "convolutional", "residual"]:
        """The key of this form in `DEFAULT_BOUNDS`."""
        if self.channels is None:
            return "layered"
        return "residual" if self.residual else "convolutional"

    def check(self, *, shift: int, homeostasis: float) -> None:
        """Raise `ValueError` or `TypeError` for arguments that cannot be combined, those of training included."""
        for name in ("residual", "binary"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.channels is None:
            if self.residual:
                raise ValueError("residual must be False where channels is None")
            if shift:
                raise ValueError(f"shift must be 0 where channels is None, got {shift!r}")
        if self.residual:
            self._require("feedback", "tied", "a residual network")
            self._require("kernel", KERNEL, "a residual network")
        if self.binary:
            if self.channels is not None:
                raise ValueError("channels must be None for a binary network: only layered networks are packed")
            self._require("feedback", "tied", "a binary network")
            self._require("activation", "sigmoid", "a binary network")
            if homeostasis:
                raise ValueError(f"homeostasis must be 0 for a binary network, which is symmetric, got {homeostasis}")

    def _require(self, name: str, value: object, network: str) -> None:
        if getattr(self, name) != value:
            raise ValueError(f"{name} must be {value!r} for {network}, got {getattr(self, name)!r}")

    def build(
        self, features: int, image: tuple[int, int, int] | None, classes: int, seed: int, dtype: torch.dtype
    ) -> StoredNetwork:
        """Return the network with its initial weights; `image` is the shape of an input where there are channels."""
        common: dict[str, Any] = {
            "loss": self.loss,
            "tau": self.tau,
            "gain": self.gain,
            "seed": seed,
            "dtype": dtype,
        }
        sizes = (features, *self.hidden_sizes, classes)
        if self.binary:
            return BinaryLayeredNetwork(sizes, binarizer=self.binarizer, input_gain=self.input_gain, **common)  # type: ignore[arg-type]
        common["activation"] = self.activation
        if self.kind != "residual":
            common |= {"feedback": self.feedback, "angle": self.angle}
        if self.channels is None:
            return LayeredNetwork(sizes, input_gain=self.input_gain, **common)
        assert image is not None
        if self.residual:
            return ResidualNetwork(image, self.channels, classes, **common)
        return ConvolutionalNetwork(
            image,
            self.channels,
            classes,
            kernel=self.kernel,
            input_gain=CONVOLUTION_INPUT_GAIN,
            draw="orthogonal",
            **common,
        )
