"""MLPerf Tiny's ResNet-8 with its own weights, whole, image to logits, on the hardware."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from cosim.harness.model import open_harness
from cosim.plan import NetworkRun
from cosim.run import drive
from hwsim.engine.functional import run_integer
from hwsim.nets.imported import quantized_policy
from hwsim.nets.load import load_network
from tests.cosim.accelerators import make_accelerator, tell
from tests.extras import load_optional
from tests.reference import reference

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["systolic", "smartdeal"])
def test_resnet8_runs_whole(name):
    """On the presets themselves: 8x8, and 4x4x4."""
    load_optional("ai_edge_litert")
    loaded = load_network(str(reference("mlperf_tiny", "pretrainedResnet_quant.tflite")))
    network, tensors = loaded.network, loaded.tensors
    image = {network.inputs[0].name: np.random.default_rng(7).integers(-128, 128, network.inputs[0].shape)}
    arch = make_accelerator(name, ())
    run = NetworkRun(
        network=network, arch=arch, policy=quantized_policy(network, tensors), tensors=tensors, image=image
    )
    results = drive(run.plan(), open_harness(arch))
    assert not tell(results)
    assert [result.name for result in results if result.skipped] == [
        layer.name for layer in network.layers if layer.op == "softmax"
    ]
    assert all(result.cycles == result.expected_cycles > 0 for result in results if not result.skipped)
    if not arch.needs_data:  # there the weights are those that come out of the decomposition
        for layer_name, array in run_integer(network, tensors, image).items():
            np.testing.assert_array_equal(run.outputs[layer_name], array, err_msg=layer_name)
