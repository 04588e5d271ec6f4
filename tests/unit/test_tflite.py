"""MLPerf Tiny's files: shapes by the published counts, values by the TFLite runtime, damage by clear errors."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.errors import HwsimError, InputError
from hwsim.nets.imported import quantized_policy
from hwsim.nets.tflite_import import import_tflite
from tests.extras import load_optional
from tests.float_run import run_float
from tests.reference import reference

litert = load_optional("ai_edge_litert.interpreter")

# file, MACs and weights of seeds.md section 6 (conv and FC weights only), MAC layers
FILES = [
    ("pretrainedResnet", 12_501_632, 77_360, 10),
    ("pretrainedResnet_quant", 12_501_632, 77_360, 10),
    ("kws_ref_model", 2_656_768, 22_016, 10),
    ("vww_96_float", 7_489_664, 208_112, 28),
    ("vww_96_int8", 7_489_664, 208_112, 28),
    ("ad01_fp32", 264_192, 264_192, 10),
]


def load(name):
    return import_tflite(reference("mlperf_tiny", f"{name}.tflite"))


@pytest.mark.parametrize(("name", "macs", "weights", "layers"), FILES)
def test_counts_equal_the_published_table(name, macs, weights, layers):
    network = load(name).network
    assert (network.macs, network.weights, len(network.mac_layers)) == (macs, weights, layers)
    assert all(layer.kind != "unpriced" for layer in network.layers)


def run_runtime(name, channels_last):
    interpreter = litert.Interpreter(
        model_path=str(reference("mlperf_tiny", f"{name}.tflite")),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], channels_last.reshape(detail["shape"]).astype(detail["dtype"]))
    interpreter.invoke()
    return {
        d["name"].split(";")[0]: interpreter.get_tensor(d["index"])
        for d in interpreter.get_tensor_details()
        if d["shape"].size
    }


def put_first(array):
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


@pytest.mark.parametrize("name", ["pretrainedResnet", "vww_96_float", "ad01_fp32"])
def test_float_values_equal_the_runtime(name):
    imported = load(name)
    spec = imported.network.inputs[0]
    x = np.random.default_rng(1).uniform(0, 1, spec.shape).astype(np.float32)
    wanted = run_runtime(name, np.moveaxis(x, 1, -1))
    values = run_float(imported.network, imported.tensors, {spec.name: x})
    for layer in imported.network.layers:
        want = put_first(wanted[layer.name])
        np.testing.assert_allclose(values[layer.name].reshape(want.shape), want, atol=1e-4 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("name", ["pretrainedResnet_quant", "kws_ref_model", "vww_96_int8"])
def test_integer_layers_equal_the_runtime_from_its_own_inputs(name):
    """Each layer gets the runtime's integers and gives the runtime's, up to one step where the two round differently."""
    imported = load(name)
    network, tensors = imported.network, imported.tensors
    spec = network.inputs[0]
    x = np.random.default_rng(1).integers(-128, 128, spec.shape)
    wanted = run_runtime(name, np.moveaxis(x, 1, -1))
    wanted[spec.name] = np.moveaxis(x, 1, -1)
    reals = {}
    for key in (spec.name, *(layer.name for layer in network.layers)):
        quant = tensors.activations[key]
        reals[key] = (put_first(wanted[key]).astype(np.float64) - quant.zero_point) * quant.scale
    from hwsim.core.network import Network, TensorSpec

    for layer in network.layers:
        specs = tuple(TensorSpec(name=n, shape=network.shape_of(n)) for n in dict.fromkeys(layer.inputs))
        alone = Network(name="one", inputs=specs, layers=(layer,), outputs=(layer.name,), source="test")
        got = run_float(alone, tensors, {n: reals[n] for n in layer.inputs})[layer.name]
        want = reals[layer.name].reshape(got.shape)
        steps = np.abs(got - want) / tensors.activations[layer.name].scale
        assert steps.max() < 1.01, layer.name
        assert (steps < 0.01).mean() > 0.99 or layer.op in ("avgpool", "softmax", "add"), layer.name


@pytest.mark.parametrize("name", ["pretrainedResnet_quant", "kws_ref_model", "vww_96_int8"])
def test_integers_and_scales_are_those_of_the_file(name):
    imported = load(name)
    tensors = imported.tensors
    for layer in imported.network.mac_layers:
        held = tensors.layers[layer.name]
        assert held.weight.dtype == np.int8
        assert held.weight.shape == (layer.G * layer.K, layer.C, layer.R, layer.S)
        assert held.bias.dtype == np.int32
        assert held.w_scale.size == (layer.G * layer.K if layer.op == "conv" else 1)
        assert held.w_zero is None
        assert layer.name in tensors.activations
    assert imported.network.layers[-1].op == "softmax"
    assert tensors.activations[imported.network.layers[-1].name].scale == 1 / 256
    assert quantized_policy(imported.network, imported.tensors).short == "w8a8"


def test_wrong_files_are_refused(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"not a flatbuffer at all")
    with pytest.raises(InputError, match="not a TFLite file"):
        import_tflite(path)
    with pytest.raises(InputError, match="cannot be read"):
        import_tflite(tmp_path / "absent.tflite")


def test_damaged_files_give_one_clear_line(tmp_path):
    data = reference("mlperf_tiny", "kws_ref_model.tflite").read_bytes()
    path = tmp_path / "m.tflite"
    rng = np.random.default_rng(9)
    messages = []
    for trial in range(150):
        broken = bytearray(data)
        if trial % 3 == 0:
            del broken[int(rng.integers(8, len(broken))) :]
        else:
            for place in rng.integers(8, len(broken) if trial % 3 == 1 else 4000, 4):
                broken[int(place)] = int(rng.integers(0, 256))
            if trial % 3 == 2:  # the tables lie at the end of this file
                for place in rng.integers(len(broken) - 12000, len(broken), 40):
                    broken[int(place)] = int(rng.integers(0, 256))
        path.write_bytes(bytes(broken))
        try:
            import_tflite(path)
        except HwsimError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert not [message for message in messages if "\n" in message]
