"""Layers, accelerators and mappings that tests draw: small, odd and all of them legal."""

from __future__ import annotations

from hypothesis import strategies as st

from hwsim.archs.systolic.spec import Systolic
from hwsim.core.datapath import Datapath, Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, TILE_DIMS, Mapping
from hwsim.core.policy import LayerFormat
from hwsim.core.shell import Memory, Shell

HUGE = 1 << 36


def small(low: int, high: int) -> st.SearchStrategy[int]:
    """Integers, small ones first."""
    return st.integers(low, high)


def conv(
    *, name="layer", op="conv", size=(1, 1), window=(1, 1), stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), **dims
):
    """Return a windowed layer with P and Q as they follow, or None where the window does not fit."""
    out = []
    for axis in (0, 1):
        reach = size[axis] + padding[axis] + padding[axis + 2] - dilation[axis] * (window[axis] - 1) - 1
        if reach < 0:
            return None
        out.append(reach // stride[axis] + 1)
    return Layer(
        name=name, op=op, inputs=("x",), H=size[0], W=size[1], R=window[0], S=window[1], stride=stride, padding=padding,
        dilation=dilation, P=out[0], Q=out[1], **dims,
    )  # fmt: skip


@st.composite
def windowed_layers(draw, op="conv", most_size=7, most_pad=3):
    """Convolutions (grouped, depthwise, dilated, strided, padded on each side alike or not) and poolings."""
    size = (draw(small(1, most_size)), draw(small(1, most_size)))
    window = (draw(small(1, 3)), draw(small(1, 3)))
    stride = (draw(small(1, 3)), draw(small(1, 3)))
    dilation = (draw(small(1, 2)), draw(small(1, 2))) if op == "conv" else (1, 1)
    most = [(window[axis % 2] - 1) * dilation[axis % 2] for axis in range(4)]
    padding = tuple(draw(small(0, min(most[axis] if most_pad < 9 else 9, most_pad))) for axis in range(4))
    dims = {"N": draw(small(1, 3)), "G": draw(small(1, 4))}
    if op == "conv" and draw(st.booleans()):
        dims |= {"K": draw(small(1, 6)), "C": draw(small(1, 6))}
    reaches = [size[a] + padding[a] + padding[a + 2] - dilation[a] * (window[a] - 1) - 1 for a in (0, 1)]
    if min(reaches) < 0:
        window, dilation = (1, 1), (1, 1)
        padding = (0, 0, 0, 0)
    layer = conv(op=op, size=size, window=window, stride=stride, padding=padding, dilation=dilation, **dims)
    assert layer is not None
    return layer


@st.composite
def workloads(draw, most_size=7, most_pad=3, mac_only=False):
    """Workloads of all operators with arithmetic at odd widths; elementwise operands may be broadcast."""
    kinds = ["conv", "gemm"] if mac_only else ["conv", "gemm", "conv", "maxpool", "avgpool", "add", "mul"]
    op = draw(st.sampled_from(kinds))
    a_bits = draw(st.sampled_from([1, 3, 4, 8, 12, 16]))
    fmt = LayerFormat(w_bits=draw(st.sampled_from([2, 3, 8])), a_bits=a_bits)
    out_bits = draw(st.sampled_from([3, 8, 32]))
    if op in ("add", "mul"):
        n, g = draw(small(1, 3)), draw(small(1, 5))
        p, q = draw(st.sampled_from([(1, 1), (1, 4), (5, 1), (4, 6), (3, 3)]))
        layer = Layer(name="layer", op=op, inputs=("x", "y"), N=n, G=g, P=p, Q=q, H=p, W=q)
        other = tuple(extent if draw(st.booleans()) else 1 for extent in (n, g, p, q))
        shapes = (layer.out_shape, other)
        return Workload(layer=layer, fmt=fmt, out_bits=out_bits, operand_bits=(a_bits, 8), operand_shapes=shapes)
    if op == "gemm":
        layer = Layer(
            name="layer", op="gemm", inputs=("x",), N=draw(small(1, 5)), K=draw(small(1, 12)), C=draw(small(1, 24))
        )
    else:
        layer = draw(windowed_layers(op, most_size, most_pad))
    return Workload(layer=layer, fmt=fmt, out_bits=out_bits, operand_bits=(a_bits,), operand_shapes=(layer.in_shape,))


@st.composite
def archs(draw, memory=None):
    """Systolic arrays of any small size with unlimited buffers and any flat memory."""
    shell = Shell(
        wbuf_bits=HUGE, ibuf_bits=HUGE, obuf_bits=HUGE,
        issue_cycles=draw(st.sampled_from([0, 1, 2, 5])), vector_lanes=draw(small(1, 8)), store_lanes=draw(small(1, 8)),
    )  # fmt: skip
    if memory is None:
        memory = Memory(
            latency_cycles=draw(st.sampled_from([0, 1, 7, 32])), bits_per_cycle=draw(st.sampled_from([1, 8, 24, 64])),
            channels=draw(st.sampled_from(["shared", "per-operand"])), align_bits=draw(st.sampled_from([0, 8, 32])),
        )  # fmt: skip
    return Systolic(
        preset="test", shell=shell, memory=memory, clock_hz=500e6, rows=draw(small(1, 5)), cols=draw(small(1, 5)),
        dataflow=draw(st.sampled_from(["os", "ws", "is"])), fold_overlap=draw(st.sampled_from(["none", "skewed"])),
        a_width=16,
    )  # fmt: skip


@st.composite
def mappings(draw, layer: Layer, out_bits=8):
    """Tilings with at most a few hundred tiles: several groups only with all of their channels, cut anywhere else where a byte of
    outputs ends.
    """
    tile = {dim: draw(small(-(-getattr(layer, dim) // 3), getattr(layer, dim))) for dim in TILE_DIMS}
    if tile["G"] > 1:
        tile |= {"K": layer.K, "C": layer.C}
    if layer.P == layer.Q == 1:
        if tile["G"] < layer.G and tile["G"] * layer.K * out_bits % 8:
            tile |= {"G": layer.G, "K": layer.K, "C": layer.C}
        while tile["K"] < layer.K and tile["K"] * out_bits % 8:
            tile["K"] += 1
    while (layer.P, layer.Q) != (1, 1) and tile["Q"] < layer.Q and tile["Q"] * out_bits % 8:
        tile["Q"] += 1
    return Mapping(tile=tuple(tile[dim] for dim in TILE_DIMS), order=draw(st.sampled_from(ORDERS)))


@st.composite
def cases(draw, memory=None, most_pad=3):
    """A datapath, its accelerator and a mapping."""
    workload = draw(workloads(most_pad=most_pad))
    arch = draw(archs(memory))
    return bind(workload, arch), arch, draw(mappings(workload.layer, workload.out_bits))


def bind(workload: Workload, arch: Systolic) -> Datapath:
    """Return the datapath of a workload."""
    return arch.bind(workload)


def workload_of(layer: Layer, w_bits=8, a_bits=8, out_bits=8) -> Workload:
    """Return the workload of a layer with one operand."""
    fmt = LayerFormat(w_bits=w_bits, a_bits=a_bits)
    return Workload(layer=layer, fmt=fmt, out_bits=out_bits, operand_bits=(a_bits,), operand_shapes=(layer.in_shape,))
