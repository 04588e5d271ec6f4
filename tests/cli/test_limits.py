"""Tensors too large, a full disk, a narrow character set: one line each."""

import os
import subprocess
import sys

import pytest

from hwsim.core.errors import InputError
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.pipeline.tensors import check_sizes


def test_a_tensor_too_large_to_compute_with_is_named_before_anything_is_allocated():
    layer = Layer(name="c", op="conv", inputs=("x",), K=4, C=3, P=60000, Q=60000, H=60000, W=60000)
    net = Network(
        name="big",
        inputs=(TensorSpec(name="x", shape=(1, 3, 60000, 60000)),),
        layers=(layer,),
        outputs=("c",),
        source="t",
    )
    with pytest.raises(InputError, match="c has 14,400,000,000 elements"):
        check_sizes(net)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hwsim.cli", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "hwsim: error: cannot write the output: No space left on device\n"


def test_a_small_character_set_is_no_error():
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "hwsim.cli", "explain", "conv2d", "energy", "--net", "resnet8"],
        capture_output=True, text=True, env=env, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
