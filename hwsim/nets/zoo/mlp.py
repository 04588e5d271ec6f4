"""Multi-layer perceptrons."""

from __future__ import annotations

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry


def _lay_300_100(net: NetBuilder) -> None:
    x = net.input((784,))
    x = net.fc(x, "fc1", 300, activation="relu")
    x = net.fc(x, "fc2", 100, activation="relu")
    net.fc(x, "fc3", 10)


NETWORKS = (
    NetEntry(
        name="mlp_300_100",
        title="MLP 784-300-100-10 (LeNet-300-100), MNIST",
        source="LeCun et al., Proc. IEEE 86(11), 1998",
        lay=_lay_300_100,
        aliases=("mlp", "lenet_300_100", "mlp_784_300_100_10"),
    ),
)
