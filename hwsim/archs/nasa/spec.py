"""Fields and presets of the chunk-based accelerator of NASA."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_choice, require_int, require_widths
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import KIB, Memory, Shell
from hwsim.core.storage import find_codec

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart

DATAFLOWS = ("rs", "is", "ws", "os")
"""Row, input, weight, output stationary."""
CHUNKS = {"multiply": "clp", "shift": "slp", "add": "alp"}
"""Operator to the prefix of its chunk's fields: convolution, shift and adder layer processor, as the paper calls them."""
SHIFT_CODE_BITS = 6
"""Widest code of a shift layer's weight, sign and exponent (GATECH-EIC/NASA, ``operations.py``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One array.

    Parameters
    ----------
    name : str
        ``clp``, ``slp`` or ``alp``.
    operator : str
        Of its elements: ``multiply``, ``shift`` or ``add``.
    rows, cols : int
        Elements.
    dataflow : str
        One of ``DATAFLOWS``.
    w_width, a_width : int
        Widest operands of an element, bits.
    """

    name: str
    operator: str
    rows: int
    cols: int
    dataflow: str
    w_width: int
    a_width: int

    @property
    def lanes(self) -> int:
        """Elements that each of ``wbuf`` and ``ibuf`` hands over in a cycle: as many as the longer side needs."""
        return max(self.rows, self.cols)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nasa(Arch):
    """Three arrays of processing elements that share memory port and scratchpads; a layer runs on the one of its operator.

    Parameters
    ----------
    clp_rows, clp_cols, slp_rows, slp_cols, alp_rows, alp_cols : int
        Elements of the chunks that multiply, shift and add.
    clp_dataflow, slp_dataflow, alp_dataflow : str
        What stays in their elements: ``rs``, ``is``, ``ws`` or ``os``.
    clp_share, slp_share, alp_share : int
        Parts of every scratchpad that a chunk has for itself, of the sum of the three: chunks work on different frames at the
        same time. Pooling and additions use that of ``clp``.
    row_words : int
        Weights, and inputs, that an element's registers hold in turn: the longest filter row of ``rs``.
    mult_bits, shift_bits, add_bits : int
        Widest operands of a multiplier, of a shifter's activation, and of an adder.
    """

    name: ClassVar[str] = "nasa"
    title: ClassVar[str] = (
        "three chunks, multiply, shift and add, each an array with its own dataflow, sharing the buffers"
    )
    operators: ClassVar[tuple[str, ...]] = ("multiply", "shift", "add")
    codecs: ClassVar[tuple[str, ...]] = ("dense", "power-of-two")

    clp_rows: int
    clp_cols: int
    slp_rows: int
    slp_cols: int
    alp_rows: int
    alp_cols: int
    clp_dataflow: str = "rs"
    slp_dataflow: str = "rs"
    alp_dataflow: str = "rs"
    clp_share: int = 1
    slp_share: int = 1
    alp_share: int = 1
    row_words: int = 12
    mult_bits: int = 8
    shift_bits: int = 16
    add_bits: int = 8

    def __post_init__(self) -> None:
        super(Nasa, self).__post_init__()
        for chunk in CHUNKS.values():
            require_int(f"nasa.{chunk}_rows", getattr(self, f"{chunk}_rows"), 1, 1024)
            require_int(f"nasa.{chunk}_cols", getattr(self, f"{chunk}_cols"), 1, 1024)
            require_choice(f"nasa.{chunk}_dataflow", getattr(self, f"{chunk}_dataflow"), DATAFLOWS)
            require_int(f"nasa.{chunk}_share", getattr(self, f"{chunk}_share"), 1, 1024)
        require_int("nasa.row_words", self.row_words, 1, 1024)
        for field in ("mult_bits", "shift_bits", "add_bits"):
            require_int(f"nasa.{field}", getattr(self, field), 2, 16)

    def chunk(self, operator: str) -> Chunk:
        """Return the chunk of an operator; ``native`` stands for multiply."""
        operator = operator if operator in CHUNKS else "multiply"
        name = CHUNKS[operator]
        width = {"multiply": self.mult_bits, "shift": self.shift_bits, "add": self.add_bits}[operator]
        return Chunk(
            name=name, operator=operator, rows=getattr(self, f"{name}_rows"), cols=getattr(self, f"{name}_cols"),
            dataflow=getattr(self, f"{name}_dataflow"), w_width=SHIFT_CODE_BITS if operator == "shift" else width, a_width=width,
        )  # fmt: skip

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The three."""
        return tuple(self.chunk(operator) for operator in CHUNKS)

    @property
    def ibuf_copies(self) -> int:
        """Copies of ``ibuf`` in generated hardware: one a lane. Larger presets stand for one banked memory."""
        return max(chunk.lanes for chunk in self.chunks) if self.is_built else 1

    def engine_of(self, workload: Workload) -> str:
        """Return the chunk that runs a layer; the vector unit works with ``clp``."""
        return self.chunk(workload.fmt.operator).name if workload.layer.kind == "mac" else "clp"

    def part_for(self, workload: Workload) -> Nasa:
        """Return the accelerator with the share of the scratchpads that a layer's chunk has."""
        total = self.clp_share + self.slp_share + self.alp_share
        share, shell = getattr(self, f"{self.engine_of(workload)}_share"), self.shell
        sizes = {
            "wbuf_bits": shell.wbuf_bits, "ibuf_bits": shell.ibuf_bits, "obuf_bits": shell.obuf_bits,
            "stage_bits": shell.staging_bits,
        }  # fmt: skip
        parts = {name: max(64, bits * share // total // 64 * 64) for name, bits in sizes.items()}
        return replace(self, shell=replace(shell, **parts))

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for operands wider than the chunk's elements and filter rows longer than their registers."""
        fmt, layer = workload.fmt, workload.layer
        chunk = self.chunk(fmt.operator)
        w_least, a_least = 1 if chunk.operator == "multiply" else 2, 2 if chunk.operator == "add" else 1
        with_operator = f" with the operator {chunk.operator}"
        require_widths(layer.name, fmt, (w_least, chunk.w_width), (a_least, chunk.a_width), with_operator)
        codec = "power-of-two" if chunk.operator == "shift" else "dense"
        if find_codec(replace(fmt, operator=chunk.operator)) != codec:
            raise SpecError(f"policy for layer {layer.name}: codec", fmt.codec, codec + with_operator)
        reach = (layer.S - 1) * layer.dilation[1] + 1
        if chunk.dataflow == "rs" and reach > self.row_words:
            raise SpecError(
                f"layer {layer.name}: S", layer.S,
                f"filter rows that span at most {self.row_words} columns with {chunk.name}_dataflow=rs",
                f"another dataflow (--set {chunk.name}_dataflow=ws) or --set row_words={reach} would help",
            )  # fmt: skip

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the widths of the chunk's elements."""
        chunk = self.chunk(workload.fmt.operator)
        return chunk.w_width, chunk.a_width

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.nasa.datapath import NasaDatapath

        return NasaDatapath(workload, self)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return the elements of the three chunks: operator, accumulator, registers."""
        from hwsim.core.actions import AreaPart

        return tuple(
            AreaPart(component=part.component, op=part.op, count=part.count * chunk.rows * chunk.cols, bits=part.bits)
            for chunk in self.chunks
            for part in self.list_element(chunk)
        )

    def list_element(self, chunk: Chunk) -> tuple[AreaPart, ...]:
        """Return what one element of a chunk is made of.

        Registers, as any dataflow needs them: two sets of ``row_words`` weights and one of inputs, the sum and its shadow
        (of other dataflows: a column's tree has about as many registers as it has rows).
        """
        from hwsim.core.actions import AreaPart

        held = self.row_words * (2 * chunk.w_width + chunk.a_width) + 2 * self.shell.psum_bits
        work = {
            "multiply": ("mult", (chunk.w_width, chunk.a_width)),
            "shift": ("shift", (chunk.a_width,)),
            "add": ("add", (max(chunk.w_width, chunk.a_width) + 1,)),
        }[chunk.operator]
        parts = (work, ("add", (self.shell.psum_bits,)), ("register", (held,)))
        return tuple(AreaPart(component=chunk.name, op=op, count=1, bits=bits) for op, bits in parts)


PRESETS = {
    "paper": Nasa(
        preset="paper", clp_rows=6, clp_cols=11, slp_rows=7, slp_cols=10, alp_rows=6, alp_cols=6, add_bits=6,
        shell=Shell(
            wbuf_bits=48 * KIB, ibuf_bits=96 * KIB, obuf_bits=96 * KIB, stage_bits=24 * KIB, wbuf_port_bits=128,
            ibuf_port_bits=256, obuf_port_bits=512, psum_bits=40, vector_lanes=16, store_lanes=16,
        ),
        memory=Memory(bits_per_cycle=128, latency_cycles=32),
        clock_hz=250e6,
        source="NASA (ICCAD 2022, arXiv 2210.13361): three chunks at 45 nm and 250 MHz in the area of an Eyeriss-like array of 168 "
        "8-bit multiply-accumulates, allotted (mappers.nasa_allot) for the repository's searched network; the rest is chosen here",
        unverified=(
            *(f"{chunk}_{field}" for chunk in CHUNKS.values() for field in ("rows", "cols", "dataflow", "share")), "row_words",
            "mult_bits", "shift_bits", "add_bits", "shell.wbuf_bits", "shell.ibuf_bits", "shell.obuf_bits", "shell.stage_bits",
            "shell.psum_bits", "shell.vector_lanes", "shell.store_lanes", "memory.bits_per_cycle", "memory.latency_cycles",
            "clock_hz", "node_nm",
        ),
    ),
    "small": Nasa(
        preset="small", clp_rows=4, clp_cols=4, slp_rows=4, slp_cols=4, alp_rows=3, alp_cols=4,
        shell=Shell(
            wbuf_bits=48 * KIB, ibuf_bits=48 * KIB, obuf_bits=48 * KIB, obuf_port_bits=160, psum_bits=40, vector_lanes=1,
            store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "paper"
