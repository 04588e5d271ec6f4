"""A layer's program as it lies in memory: parameter words, then instructions with their descriptors, 512 bits each.

=====================  ==================================================================================================
words                  content
=====================  ==================================================================================================
1                      `HEADER_FIELDS`: what holds for the whole layer
ceil(channels / 4)     `PARAMETER_FIELDS` of four output channels, ``PARAMETER_BITS`` each, the first lowest
the rest               instructions (`accel_rtl.instruction_word`), an EXEC followed by ``EngineSpec.tile_words`` descriptor words,
                       a STORE or SPILL by one, a load by none
=====================  ==================================================================================================

The registers ``parameter_words`` (the first two rows) and ``program_words`` (the last one: instructions and descriptors) tell the
fetch unit where it stands: it reads no word more. The first word lies at a multiple of 64 bytes. Parameters are read before cycle
0 of the program.
"""

from __future__ import annotations

from accel_rtl.instruction_word import WORD_BITS

STORE_WORDS = 1
"""Descriptor words of a STORE or SPILL."""
PARAMETER_BITS = 128
PARAMETERS_OF_A_WORD = WORD_BITS // PARAMETER_BITS

HEADER_FIELDS: tuple[tuple[str, int, bool], ...] = (
    ("is_vector", 1, False),  # EXEC runs on the vector unit
    ("operation", 2, False),  # of the vector unit: 0 maximum, 1 sum, 2 addition of two operands
    ("a_signed", 1, False),  # stored elements of operand 0
    ("b_signed", 1, False),
    ("a_zero", 18, True),  # zero points of the operands
    ("b_zero", 18, True),
    ("factor_a", 33, True),  # addition: multipliers of the operands and the right shift of the sum
    ("factor_b", 33, True),
    ("factor_shift", 6, False),
    ("out_zero", 18, True),  # stored = clamp(round((acc + bias) multiplier >> shift) + out_zero, out_low, out_high)
    ("out_low", 18, True),
    ("out_high", 18, True),
)
"""Name, width, two's complement; in this order from bit 0."""

PARAMETER_FIELDS: tuple[tuple[str, int, bool], ...] = (
    ("bias", 32, True),
    ("multiplier", 31, False),
    ("shift", 6, False),
)
"""Of one output channel; in this order from bit 0 of its 128."""
SHIFT_FIELDS: tuple[tuple[str, int, bool], ...] = (("bias", 32, True), ("shift", 7, True))
"""The same on a machine that only shifts; a negative shift goes to the left."""
