"""Whatever a model file holds, the importer answers with a network or with one clear line."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwsim.core.errors import HwsimError, InputError
from hwsim.nets.onnx_import import import_onnx
from tests.extras import load_optional

onnx = load_optional("onnx")
h, T = onnx.helper, onnx.TensorProto


def valid_model():
    """A float convolution with normalization, a quantized gemm, shape arithmetic: every kind of field once."""
    rng = np.random.default_rng(0)
    inits = [
        onnx.numpy_helper.from_array(rng.standard_normal((4, 2, 3, 3)).astype(np.float32), "w"),
        onnx.numpy_helper.from_array(rng.integers(-127, 127, (16, 5)).astype(np.int8), "q"),
        h.make_tensor("s", T.FLOAT, [], [0.02]),
        h.make_tensor("z", T.INT8, [], [0]),
        h.make_tensor("mv", T.FLOAT, [4], [0.5, 1, 1.5, 2]),
        h.make_tensor("target", T.INT64, [2], [0, -1]),
    ]
    nodes = [
        h.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2], name="conv"),
        h.make_node("BatchNormalization", ["a", "mv", "mv", "mv", "mv"], ["b"], name="bn", epsilon=1e-5),
        h.make_node("Relu", ["b"], ["c"], name="relu"),
        h.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], name="pool"),
        h.make_node("Slice", ["d", "starts", "ends"], ["e"], name="cut"),
        h.make_node("Constant", [], ["starts"], value=h.make_tensor("v", T.INT64, [3], [0, 0, 0])),
        h.make_node("Constant", [], ["ends"], value=h.make_tensor("v", T.INT64, [3], [1, 4, 2])),
        h.make_node("Reshape", ["e", "target"], ["f"], name="flat"),
        h.make_node("QuantizeLinear", ["f", "s", "z"], ["g"], name="quant"),
        h.make_node("DequantizeLinear", ["g", "s", "z"], ["i"], name="dequant"),
        h.make_node("DequantizeLinear", ["q", "s", "z"], ["wq"], name="weights"),
        h.make_node("Gemm", ["i", "wq"], ["y"], name="fc"),
    ]
    info = h.make_tensor_value_info("x", T.FLOAT, ["n", 2, 6, 6]), h.make_tensor_value_info("y", T.FLOAT, None)
    return h.make_model(
        h.make_graph(nodes, "g", [info[0]], [info[1]], inits), ir_version=10, opset_imports=[h.make_opsetid("", 17)]
    )


VALID = valid_model().SerializeToString()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


def refuse(folder, model, match):
    """Write the model, expect InputError of one line within a bounded memory, and return its text."""
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=match) as caught:
            import_onnx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_model_under_attack_is_valid(folder):
    (folder / "v.onnx").write_bytes(VALID)
    imported = import_onnx(folder / "v.onnx")
    assert [layer.op for layer in imported.network.layers] == ["conv", "maxpool", "flatten", "gemm"]
    assert imported.tensors.layers["fc"].w_bits == 8


FUZZ = settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@FUZZ
@given(flips=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_give_a_network_or_a_clear_error(folder, flips):
    data = bytearray(VALID)
    for place, value in flips:
        data[place] = value
    survive(folder, bytes(data))


@FUZZ
@given(cut=st.integers(0, len(VALID) - 1), tail=st.binary(max_size=12))
def test_truncated_files_give_a_network_or_a_clear_error(folder, cut, tail):
    survive(folder, VALID[:cut] + tail)


@FUZZ
@given(
    field=st.sampled_from(
        ["pads", "strides", "kernel_shape", "epsilon", "axis", "group", "auto_pad", "perm", "to", "dilations"]
    ),
    value=st.one_of(
        st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=5), st.lists(st.integers(-3, 2**40), max_size=5)
    ),
    node=st.integers(0, 11),
    op=st.sampled_from(
        [
            "",
            "Transpose",
            "Concat",
            "Split",
            "Pad",
            "Softmax",
            "Cast",
            "Gather",
            "Expand",
            "ReduceMean",
            "Clip",
            "Add",
            "MatMul",
        ]
    ),
)
def test_odd_attributes_and_operators_give_a_network_or_a_clear_error(folder, field, value, node, op):
    model = onnx.ModelProto.FromString(VALID)
    target = model.graph.node[node]
    kept = [attr for attr in target.attribute if attr.name != field]
    del target.attribute[:]
    target.attribute.extend(kept)
    if value != []:
        target.attribute.append(h.make_attribute(field, value))
    if op:
        target.op_type = op
    survive(folder, model.SerializeToString())


def survive(folder, data):
    path = folder / "fuzz.onnx"
    path.write_bytes(data)
    try:
        imported = import_onnx(path)
    except HwsimError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 4000
    else:
        assert imported.network.layers


def edit(change):
    model = onnx.ModelProto.FromString(VALID)
    change(model.graph)
    return model


def test_cyclic_graph(folder):
    refuse(folder, edit(lambda g: g.node[0].input.__setitem__(0, "c")), "cyclic")


def test_dangling_input_and_missing_initializer(folder):
    text = refuse(
        folder,
        edit(lambda g: (g.node[1].input.__setitem__(0, "nowhere"), g.initializer.pop(0))),
        "which nothing produces",
    )
    assert "'nowhere'" in text
    assert "'w'" in text


def test_duplicate_names(folder):
    refuse(folder, edit(lambda g: g.node[2].output.__setitem__(0, "a")), "produced twice")
    refuse(folder, edit(lambda g: g.initializer.append(g.initializer[0])), "used twice")


@pytest.mark.parametrize("dims", [[-4, 2, 3, 3], [1 << 62, 1 << 62], [1 << 20, 1 << 20], [4, 2, 3, 4]])
def test_shapes_that_do_not_fit_the_bytes(folder, dims):
    def change(graph):
        del graph.initializer[0].dims[:]
        graph.initializer[0].dims.extend(dims)

    refuse(folder, edit(change), "negative dimension|more than 2 GiB|bytes are|are there")


@pytest.mark.parametrize("size", [-1, 0, 1 << 40, 1 << 62])
def test_input_shapes_out_of_range(folder, size):
    def change(graph):
        graph.input[0].type.tensor_type.shape.dim[2].dim_value = size

    refuse(folder, edit(change), "gives a tensor of shape")


def test_huge_fill_is_never_allocated(folder):
    nodes = [
        h.make_node("Constant", [], ["n"], value=h.make_tensor("v", T.INT64, [2], [1 << 34, 1 << 5])),
        h.make_node("ConstantOfShape", ["n"], ["w"]),
        h.make_node("Exp", ["w"], ["w2"]),
        h.make_node("Add", ["w", "w"], ["w3"]),
        h.make_node("MatMul", ["x", "w3"], ["y"]),
    ]
    info = [h.make_tensor_value_info("x", 1, [1, 4])], [h.make_tensor_value_info("y", 1, None)]
    refuse(folder, h.make_model(h.make_graph(nodes, "g", *info)), "more than 268,435,456 elements")


def test_overflowing_padding_and_negative_stride(folder):
    def change(graph):
        graph.node[0].attribute[0].ints[:] = [1 << 62] * 4

    refuse(folder, edit(change), "beyond 65,536|below 1")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(folder, value):
    weights = np.full((4, 2, 3, 3), value, np.float32)
    refuse(
        folder,
        edit(lambda g: g.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))),
        "NaN or infinite weights",
    )


def test_wrong_attribute_type(folder):
    refuse(
        folder,
        edit(lambda g: g.node[0].attribute.append(h.make_attribute("group", "two"))),
        "attribute group that is no integer",
    )


def test_subgraphs(folder):
    def change(graph):
        body = h.make_graph([h.make_node("Identity", ["x"], ["r"])], "b", [], [h.make_tensor_value_info("r", 1, None)])
        graph.node.append(h.make_node("If", ["z"], ["o"], then_branch=body, else_branch=body, name="branch"))

    refuse(folder, edit(change), r"'branch' \(If\) holds a subgraph")


def test_symbolic_dimension_needs_a_value(folder):
    def change(graph):
        graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"

    refuse(folder, edit(change), "symbolic dimensions 'height'")
    imported = import_onnx(folder / "m.onnx", input_shapes={"x": (2, 2, 6, 6)})
    assert imported.network.inputs[0].shape == (2, 2, 6, 6)


def test_names_of_the_file_stay_on_one_line(folder):
    refuse(folder, edit(lambda g: g.node[1].input.__setitem__(0, "a\nb" + "x" * 5000)), "which nothing produces")


def external(location, folder=None, **entries):
    model = edit(lambda g: None)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def test_external_data_beside_the_model_is_read(folder):
    (folder / "w.bin").write_bytes(np.arange(80, dtype="<f4").tobytes())
    (folder / "m.onnx").write_bytes(external("w.bin", offset=16, length=288).SerializeToString())
    held = import_onnx(folder / "m.onnx").tensors.layers["conv"]
    assert held.weight.shape == (4, 2, 3, 3)
    assert np.isfinite(held.weight).all()


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret.bin", "sub/../../secret.bin", "", "w\0.bin", "..\\secret.bin"]
)
def test_external_data_outside_the_folder_is_refused(folder, location):
    refuse(folder, external(location), "not a plain path inside the model's folder")


def test_external_data_through_a_symbolic_link_is_refused(folder, tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(288))
    link = folder / "link.bin"
    os.symlink(tmp_path / "secret.bin", link)
    refuse(folder, external("link.bin"), "leads outside of the model's folder")
    link.unlink()


@pytest.mark.parametrize("entries", [{"offset": 100}, {"offset": -8}, {"length": 1 << 50}, {"offset": "x"}])
def test_external_data_of_the_wrong_size_is_refused(folder, entries):
    (folder / "w.bin").write_bytes(bytes(288))
    refuse(folder, external("w.bin", **entries), "are declared at|that is no number")


def test_external_data_that_is_absent_or_a_pipe(folder):
    refuse(folder, external("absent.bin"), "cannot be read")
    os.mkfifo(folder / "pipe.bin")
    refuse(folder, external("pipe.bin"), "no regular file")


def test_a_file_over_two_gibibytes_is_not_read(folder):
    path = folder / "big.onnx"
    with path.open("wb") as stream:
        stream.truncate((1 << 31) + 1)  # sparse: it takes no room
    with pytest.raises(InputError, match="the limit is 2 GiB"):
        import_onnx(path)
    path.unlink()


def test_files_that_are_no_models(folder):
    refuse(folder, b"\x7fELF" + bytes(200), "not an ONNX file")
    refuse(folder, b"", "is empty")
    with pytest.raises(InputError, match="not a regular file"):
        import_onnx(folder)
    with pytest.raises(InputError, match="cannot be read"):
        import_onnx(folder / "absent.onnx")


def test_all_problems_of_a_file_are_listed(folder):
    def change(graph):
        graph.node[0].attribute[0].ints[:] = [1, 1]
        graph.node.append(h.make_node("ReduceProd", ["target"], ["p"], name="x1"))
        graph.node.append(h.make_node("LSTM", ["q"], ["p2"], name="x2"))

    text = refuse(folder, edit(change), "'conv'")
    assert "'x2' (LSTM)" in text
