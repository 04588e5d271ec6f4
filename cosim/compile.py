"""From a layer with its tensors to what an accelerator needs to run it, and what must come out of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from accel_rtl.instruction_word import WORD_BYTES, pack_table
from accel_rtl.machine import EngineSpec, Machine
from accel_rtl.program_image import STORE_WORDS
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.errors import SpecError
from hwsim.core.mapping import Mapping, list_boxes
from hwsim.core.program import EXECUTE, SPILL, STORE_O, Program, Timeline
from hwsim.engine.execute import execute_program, list_exec_banks
from hwsim.engine.execute_parameters import LayerParameters
from hwsim.engine.image import Image, build_image, load_tensor
from hwsim.engine.lower import lower_table, prepare_lowering, stored_bits
from hwsim.engine.run import Run, time_table

FILL = 0xA5
"""Byte of memory that belongs to no tensor: a stray write or a missing one shows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerJob:
    """One run of an accelerator.

    Parameters
    ----------
    name : str
        The layer.
    program : bytes
        Parameter words, then instructions with descriptors, 512 bits each.
    parameter_words, program_words : int
        What the registers of the same names hold: words of header and parameters, words of instructions and descriptors.
    table : ndarray [instructions]
        Of dtype ``INSTRUCTION``.
    image, wanted : ndarray uint8
        Memory before and behind the layer. Behind ``compared_bytes`` partial sums stand: they are not compared.
    compared_bytes : int
    timeline : Timeline
        When each instruction runs.
    run : Run
        Length and account of the layer.
    output_bits : tuple of (int, int)
        First bit of the output tensor, and one past its last.
    output : OutputPlace
        How its elements lie.
    simulator_seconds : float
        CPU time that lowering and timing the layer took.
    """

    name: str
    program: bytes
    parameter_words: int
    program_words: int
    table: npt.NDArray[np.void] = field(repr=False)
    image: Image = field(repr=False)
    wanted: Image = field(repr=False)
    compared_bytes: int
    timeline: Timeline = field(repr=False)
    run: Run
    output_bits: tuple[int, int]
    output: OutputPlace
    simulator_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlace:
    """Where an output tensor lies: first bit, shape ``[N, G*K, P, Q]``, bits and sign of an element, alignment in bits."""

    base: int
    shape: tuple[int, int, int, int]
    bits: int
    align: int
    signed: bool

    def read(self, image: Image) -> npt.NDArray[np.int64]:
        """Return the tensor out of a memory image."""
        return load_tensor(image, self.base, self.shape, self.bits, self.align, self.signed)


def compile_layer(
    datapath: Datapath,
    arch: Arch,
    mapping: Mapping,
    parameters: LayerParameters,
    weight: npt.NDArray[Any] | None,
    operands: list[npt.NDArray[Any]],
    fill: int = FILL,
) -> LayerJob:
    """Return a layer as an accelerator runs it.

    Parameters
    ----------
    datapath, arch, mapping, parameters
        As of `hwsim.engine.execute.execute_program`.
    weight : ndarray or None
        Stored integers ``[G*K, C, R, S]`` of a MAC layer.
    operands : list of ndarray
        Stored integers of the activation operands.
    fill : int
        Byte of memory outside of all tensors.

    Raises
    ------
    SpecError
        Something that the hardware has not: docs/rtl.md lists it.
    """
    from accel_rtl.accelerator import find_engine
    from accel_rtl.shell.parameters import choose_fields, pack_parameters
    from accel_rtl.shell.shifts import reduce_to_shifts

    engine = find_engine(arch)
    machine = engine.machine
    check_layer(datapath, machine, parameters)
    parameters = join_pixels(parameters)
    ready = prepare_lowering(datapath, arch)
    seconds = 0.0
    for _ in range(2):  # the first one may load compiled kernels
        began = time.process_time()
        table = lower_table(datapath, mapping, ready)
        run, timeline = time_table(table, arch)
        seconds = time.process_time() - began
    layer, packed = datapath.layer, parameters
    if machine.requantizer == "shift":
        packed = reduce_to_shifts(layer.name, parameters)
    head = pack_header(datapath, packed) + pack_parameters(layer, packed, choose_fields(machine.requantizer))
    stream = pack_stream(engine, datapath, arch, mapping, parameters, table)
    image = _pad(build_image(datapath, mapping, ready, table, weight, operands, fill), machine.beat_bits // 8, fill)
    wanted = execute_program(Program(instructions=table.tobytes()), datapath, arch, mapping, image, parameters)
    align, bits = arch.memory.alignment_bits, datapath.workload.out_bits
    base, shape = int(ready.out[5]), datapath.layer.out_shape
    return LayerJob(
        name=datapath.layer.name, program=head + stream, parameter_words=len(head) // WORD_BYTES,
        program_words=len(stream) // WORD_BYTES,
        table=table, image=image, wanted=wanted, compared_bytes=min(len(image), int(ready.scalars[4]) // 8),
        timeline=timeline, run=run, output_bits=(base, base + stored_bits(shape, bits, align)),
        output=OutputPlace(base=base, shape=shape, bits=bits, align=align, signed=parameters.out_signed),
        simulator_seconds=seconds,
    )  # fmt: skip


def _pad(image: Image, unit: int, fill: int) -> Image:
    return np.concatenate([image, np.full(-image.size % unit, fill, np.uint8)])


def check_layer(datapath: Datapath, machine: Machine, parameters: LayerParameters) -> None:
    """Raise SpecError for what the accelerators have not, whatever their engine; see docs/rtl.md."""
    layer, load = datapath.layer, datapath.workload
    where = f"layer {layer.name}"
    for name, found in (*(("operand bits", bits) for bits in load.operand_bits), ("output bits", load.out_bits)):
        if found != machine.a_bits:
            raise SpecError(f"{where}: {name}", found, f"{machine.a_bits}, the width of the hardware's activations")
    if parameters.weight_zero.any():
        raise SpecError(f"{where}: weight zero point", int(np.abs(parameters.weight_zero).max()), "0 in hardware")
    if layer.kind == "mac" and not parameters.weight_signed:
        raise SpecError(f"{where}: weights", "unsigned", "two's complement in hardware")
    if parameters.narrow is not None:
        raise SpecError(f"{where}: input format", "requantized as it is read", "the stored one in hardware")
    if parameters.lookup is not None:
        raise SpecError(f"{where}: operator", layer.op, "one without a table, in hardware")


def join_pixels(parameters: LayerParameters) -> LayerParameters:
    """Return parameters with one scale a channel where all pixels have the same; others are left as they are."""
    requant = parameters.requant
    multiplier, shift = requant.multiplier, requant.shift
    if (multiplier != multiplier[:, :1, :1]).any() or (shift != shift[:, :1, :1]).any():
        return parameters
    return replace(parameters, requant=replace(requant, multiplier=multiplier[:, :1, :1], shift=shift[:, :1, :1]))


def pack_header(datapath: Datapath, parameters: LayerParameters) -> bytes:
    """Return the header word of a layer."""
    from accel_rtl.shell.parameters import find_limits
    from accel_rtl.shell.vector import list_vector_header
    from accel_rtl.shell.vector_descriptor import header_layout, pack_fields

    layout = header_layout()
    fields = dict.fromkeys((str(name) for name in layout.members), 0)
    if datapath.layer.kind != "mac":
        fields |= list_vector_header(datapath, parameters)
    fields |= zip(("out_zero", "out_low", "out_high"), find_limits(parameters), strict=True)
    word = pack_fields(fields, layout, f"layer {datapath.layer.name}: header")
    return word.to_bytes(WORD_BYTES, "little")


def pack_stream(
    engine: EngineSpec,
    datapath: Datapath,
    arch: Arch,
    mapping: Mapping,
    parameters: LayerParameters,
    table: npt.NDArray[np.void],
) -> bytes:
    """Return instructions, each with its descriptor words."""
    from accel_rtl.shell.store import describe_spill, describe_store
    from accel_rtl.shell.vector import describe_vector

    layer, columns = datapath.layer, engine.machine.columns
    place = "linear" if layer.kind != "mac" else "pixels" if engine.pixel_columns else "filters"
    boxes = list_boxes(layer, mapping.tile)
    words, found = pack_table(table), []
    tile = {0: -1, 1: -1}
    for i, record in enumerate(table):
        found.append(words[i * WORD_BYTES : (i + 1) * WORD_BYTES])
        op = int(record["op"])
        if op == EXECUTE:
            banks = list_exec_banks(record)
            index = tile[banks["obuf"]] = int(record["tile"])
            box, chosen = (boxes.lo[index], boxes.hi[index]), (banks["wbuf"], banks["ibuf"], banks["obuf"])
            if layer.kind == "mac":
                descriptor = engine.describe(datapath, box, chosen, parameters)
            else:
                descriptor = describe_vector(datapath, arch, box, chosen, parameters)
            found.append(descriptor.to_bytes(engine.tile_words * WORD_BYTES, "little"))
        elif op in (STORE_O, SPILL):
            index = tile[int(record["bank"])]
            box = boxes.lo[index], boxes.hi[index]
            describe = describe_store if op == STORE_O else describe_spill
            found.append(describe(datapath, arch, box, place, columns).to_bytes(STORE_WORDS * WORD_BYTES, "little"))
    return b"".join(found)
