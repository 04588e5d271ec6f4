"""Accuracy and agreement of a quantized network, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.errors import SpecError
from hwsim.core.policy import Policy
from hwsim.engine.functional import run_float
from hwsim.nets.registry import find_network
from hwsim.nets.synthetic import synthesize_tensors
from hwsim.pipeline.fidelity import measure_fidelity

IMAGES = 8


def test_right_answers_and_agreement_are_shares_of_the_images():
    network, arch = find_network("resnet8").with_batch(IMAGES), find_arch("bismo:small")
    tensors = synthesize_tensors(network, 3)
    images = np.random.default_rng(5).normal(size=network.inputs[0].shape).astype(np.float32)
    first = measure_fidelity(network, arch, Policy(), tensors, images)
    assert first.accuracy is None
    wrong = np.array(first.answers) + (np.arange(IMAGES) < 3)
    policy = Policy()
    found = measure_fidelity(network, arch, policy, tensors, images, wrong)
    assert (found.answers, found.accuracy) == (first.answers, 5 / IMAGES)
    scores = network.layer(network.outputs[0])
    exact = run_float(network, tensors, images)[scores.inputs[0] if scores.op == "softmax" else scores.name]
    exact = exact.reshape(IMAGES, -1).argmax(axis=1)
    assert found.agreement == np.mean([a == b for a, b in zip(found.answers, exact, strict=True)])
    for labels in (wrong[:1], wrong[:, None], np.int64(3)):
        with pytest.raises(SpecError, match=r"labels.shape: got .*, expected \(8,\), a label for each image"):
            measure_fidelity(network, arch, policy, tensors, images, labels)
