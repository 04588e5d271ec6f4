"""Memory images: bit order, layout element by element, padding left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.registry import find_arch
from hwsim.core.bits import bits_to_integers, integers_to_bits
from hwsim.core.mapping import Mapping
from hwsim.core.program import INSTRUCTION
from hwsim.engine.image import (
    cut_slab,
    list_run_bits,
    load_tensor,
    measure_table,
    read_bits,
    read_slab,
    store_tensor,
    store_weights,
    write_bits,
    write_slab,
)
from hwsim.engine.kernel_lower import describe
from hwsim.engine.lower import stored_bits
from tests.naive_cases import bind, workload_of
from tests.naive_cases import conv as make_conv
from tests.naive_lower import address_of, decode_runs

shapes = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 6), st.integers(1, 9)) | st.tuples(
    st.integers(1, 3), st.integers(1, 20), st.just(1), st.just(1)
)
aligns = st.sampled_from([1, 8, 24, 32, 64, 128])


def element_bits(value: int, bits: int) -> list[int]:
    return [value >> i & 1 for i in range(bits)]


def draw_box(data, shape):
    box = []
    for extent in shape:
        low = data.draw(st.integers(0, extent - 1))
        box.append((low, data.draw(st.integers(low + 1, extent))))
    return tuple(box)


def test_bit_a_of_memory_is_bit_a_modulo_8_of_byte_a_over_8():
    image = np.zeros(4, np.uint8)
    store_tensor(image, 8, np.array([[[[0x3, -1, 0x2]]]]), 3, 8)
    # elements 011, 111, 010 from the least significant bit on: 1 1 0, 1 1 1, 0 1 0
    assert image.tolist() == [0, 0b10111011, 0, 0]
    assert read_bits(image, 8, 9).tolist() == [1, 1, 0, 1, 1, 1, 0, 1, 0]
    assert load_tensor(image, 8, (1, 1, 1, 3), 3, 8, signed=True).ravel().tolist() == [3, -1, 2]
    assert load_tensor(image, 8, (1, 1, 1, 3), 3, 8, signed=False).ravel().tolist() == [3, 7, 2]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(shapes, st.integers(1, 16), aligns, st.integers(0, 40), st.booleans(), st.integers(0, 99))
def test_every_bit_of_every_element_lies_where_the_program_says(shape, bits, align, at, signed, seed):
    rng = np.random.default_rng(seed)
    low = -(1 << (bits - 1)) if signed else 0
    array = rng.integers(low, low + (1 << bits), shape)
    base = at * align
    image = rng.integers(0, 256, (base + stored_bits(shape, bits, align)) // 8 + 3).astype(np.uint8)
    wanted = [int(byte) >> i & 1 for byte in image for i in range(8)]
    for index in np.ndindex(shape):
        first = address_of(shape, bits, base, align, *index)
        wanted[first : first + bits] = element_bits(int(array[index]), bits)
        ends_row = index[3] == shape[3] - 1 and (shape[2:] != (1, 1) or index[1] == shape[1] - 1)
        if ends_row and align % 8 == 0:  # stores write whole bytes
            wanted[first + bits : -(-(first + bits) // 8) * 8] = [0] * (-(first + bits) % 8)
    store_tensor(image, base, array, bits, align)
    assert [int(byte) >> i & 1 for byte in image for i in range(8)] == wanted
    np.testing.assert_array_equal(load_tensor(image, base, shape, bits, align, signed), array)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data(), shapes, st.integers(1, 16), aligns)
def test_the_bits_of_an_instruction_hold_its_box_where_the_slab_says(data, shape, bits, align):
    box = draw_box(data, shape)
    record = np.zeros(1, INSTRUCTION)
    stored = np.array((*shape, bits, 0), np.int64)
    describe(record, 0, stored, bits, 5 * align, align, *(edge for span in box for edge in span))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    array = rng.integers(0, 1 << bits, shape)
    image = np.zeros(measure_table(record) // 8 + stored_bits(shape, bits, align) + 9, np.uint8)
    store_tensor(image, 5 * align, array, bits, align)
    where = list_run_bits(record[0])
    assert where.tolist() == [at + i for at, run in decode_runs(record[0]) for i in range(run)]
    slab = cut_slab(shape, bits, align, box)
    assert slab.stream_bits == where.size == record[0]["bits"]
    stream = np.unpackbits(image, bitorder="little")[where]
    inside = array[tuple(slice(*span) for span in box)]
    np.testing.assert_array_equal(read_slab(slab, stream, False).ravel(), inside.ravel())
    fresh = np.ones(slab.stream_bits, np.uint8)
    write_slab(slab, inside * 0, fresh)
    assert int((fresh == 0).sum()) == inside.size * bits
    write_slab(slab, inside, fresh)
    np.testing.assert_array_equal(read_slab(slab, fresh, False).ravel(), inside.ravel())


@pytest.mark.parametrize(("values", "bits"), [([4], 2), ([-3], 2), ([-1, 2], 2), ([256], 8)])
def test_values_that_do_not_fit_are_refused(values, bits):
    with pytest.raises(ValueError, match=f"do not fit {bits} bits"):
        store_tensor(np.zeros(64, np.uint8), 0, np.array(values).reshape(1, 1, 1, -1), bits, 8)


def test_bits_outside_an_image_are_refused():
    image = np.zeros(2, np.uint8)
    with pytest.raises(ValueError, match="bits 9 to 17 lie outside an image of 16 bits"):
        read_bits(image, 9, 8)
    with pytest.raises(ValueError, match="lie outside"):
        write_bits(image, -1, np.ones(1, np.uint8))
    with pytest.raises(ValueError, match="the stream holds 7 bits, its box takes 8"):
        read_slab(cut_slab((1, 1, 1, 1), 8, 8), np.zeros(7, np.uint8), False)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=5), st.integers(1, 64))
def test_integers_come_back_from_their_bits_modulo_the_width(values, bits):
    found = bits_to_integers(integers_to_bits(np.array(values, np.int64), bits), signed=True)
    half = 1 << (bits - 1)
    assert found.tolist() == [(v + half) % (2 * half) - half for v in values]


@pytest.mark.parametrize("w_bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("align", [8, 24, 64])
def test_weights_lie_tile_by_tile_in_the_order_in_which_the_array_takes_them(w_bits, align):
    layer = make_conv(size=(5, 5), window=(3, 2), G=2, K=5, C=3)
    datapath = bind(workload_of(layer, w_bits=w_bits), find_arch("systolic", "small"))
    rng = np.random.default_rng(1)
    weight = rng.integers(-(1 << (w_bits - 1)), 1 << (w_bits - 1), (10, 3, 3, 2)) if w_bits > 1 else None
    if weight is None:
        weight = rng.choice([-1, 1], (10, 3, 3, 2))
    image = np.zeros(900, np.uint8)
    store_weights(image, datapath, Mapping(tile=(1, 1, 2, 2, 3, 4), order="MKC"), weight, align)
    wanted, at = [0] * 7200, 0
    for g in range(2):
        for ks in ((0, 1), (2, 3), (4,)):
            for cs in ((0, 1), (2,)):
                for k, c, r, s in ((k, c, r, s) for c in cs for r in range(3) for s in range(2) for k in ks):
                    value = int(weight[g * 5 + k, c, r, s])
                    wanted[at : at + w_bits] = element_bits(value if w_bits > 1 else (value + 1) // 2, w_bits)
                    at += w_bits
                at = -(-at // align) * align
    assert np.unpackbits(image, bitorder="little").tolist() == wanted


@pytest.mark.parametrize(("w_bits", "values"), [(4, (8, -1)), (4, (-9, 0)), (1, (-1, 0)), (3, (0, 9))])
def test_weights_that_do_not_fit_are_refused(w_bits, values):
    datapath = bind(workload_of(make_conv(C=2), w_bits=w_bits), find_arch("systolic", "small"))
    lo, hi = np.zeros(6, np.int64), np.array([1, 1, 1, 2, 1, 1])
    with pytest.raises(ValueError, match=f"layer layer: weights from .* do not fit {w_bits} bits"):
        datapath.pack_weights(np.array(values).reshape(1, 2, 1, 1), lo, hi)


@pytest.mark.parametrize(("w_bits", "values", "signed"), [(1, (1, 1), True), (1, (0, 1), False), (2, (3, 0), False)])
def test_weights_come_back_from_their_bits(w_bits, values, signed):
    datapath = bind(workload_of(make_conv(C=2), w_bits=w_bits), find_arch("systolic", "small"))
    lo, hi = np.zeros(6, np.int64), np.array([1, 1, 1, 2, 1, 1])
    bits = datapath.pack_weights(np.array(values).reshape(1, 2, 1, 1), lo, hi)
    assert bits.size == 2 * w_bits
    assert datapath.unpack_weights(bits, lo, hi, signed).ravel().tolist() == list(values)
