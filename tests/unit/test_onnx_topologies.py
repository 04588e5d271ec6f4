"""The networks that ship with the onnx package: their weights are one repeated number, their shapes are real."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from hwsim.nets.onnx_import import import_onnx
from tests.extras import load_optional

onnx = load_optional("onnx")
FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

# convolutions and their MACs in millions (reference/tables/models_offline.csv), MACs with the fully connected layers:
# ResNet-50 v1.5 and VGG-19 equal seeds.md section 6
FILES = [
    ("resnet50", 53, 4087, 4_089_184_256),
    ("vgg19", 16, 19508, 19_632_062_464),
    ("bvlc_alexnet", 5, 596, None),
    ("densenet121", 121, 2834, None),
    ("inception_v1", 57, 1430, None),
    ("inception_v2", 69, 2018, None),
    ("squeezenet", 26, 349, None),
    ("shufflenet", 49, 124, None),
    ("zfnet512", 5, 1401, None),
]


@pytest.mark.parametrize(("name", "convolutions", "megamacs", "total"), FILES)
def test_macs_equal_the_published_ones(name, convolutions, megamacs, total):
    path = FOLDER / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip(f"the onnx package has no {path.name}")
    imported = import_onnx(path)
    convs = [layer for layer in imported.network.layers if layer.op == "conv"]
    assert len(convs) == convolutions
    assert int(sum(layer.macs for layer in convs) / 1e6) in (megamacs, megamacs - 1)
    assert total in (None, imported.network.macs)
    assert imported.tensors is None
    assert not [layer for layer in imported.network.layers if layer.op == "unpriced"]


def test_structure_of_shufflenet_and_resnet():
    if not FOLDER.exists():
        pytest.skip("the onnx package has no light models")
    shuffle = Counter(layer.op for layer in import_onnx(FOLDER / "light_shufflenet.onnx").network.layers)
    assert (shuffle["shuffle"], shuffle["reshape"], shuffle["transpose"], shuffle["scale"]) == (16, 0, 0, 0)
    residual = import_onnx(FOLDER / "light_resnet50.onnx").network
    adds = [layer for layer in residual.layers if layer.op == "add"]
    assert len(adds) == 16
    assert {layer.activation for layer in adds} == {"relu"}


def test_batch_changes_the_cost_in_proportion():
    path = FOLDER / "light_squeezenet.onnx"
    if not path.exists():
        pytest.skip("the onnx package has no light models")
    assert import_onnx(path, batch=4).network.macs == 4 * import_onnx(path).network.macs
