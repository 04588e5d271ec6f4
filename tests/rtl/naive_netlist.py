"""A netlist simulated the obvious way: one stream, a dict of nets, Python's own operators, cells until nothing changes."""

from __future__ import annotations

import re
from typing import ClassVar

TINY = """
library (tiny) {
  nom_voltage : 2.0; nom_temperature : 25; voltage_unit : "1V"; capacitive_load_unit (1, pf); time_unit : "1ns";
  leakage_power_unit : "1nW";
  power_lut_template (grid) {
    variable_1 : input_transition_time; variable_2 : total_output_net_capacitance;
    index_1 ("0.1, 0.3"); index_2 ("0.0, 0.1");
  }
  cell (NAND) { area : 2; cell_leakage_power : 3;
    pin (A) { direction : input; capacitance : 0.01; }
    pin (B) { direction : input; capacitance : 0.02; }
    pin (Y) { direction : output; function : "!(A*B)";
      internal_power () { related_pin : "A";
        rise_power (grid) { values ("1.0, 2.0", "3.0, 4.0"); } fall_power (scalar) { values ("0.5"); } }
      internal_power () { related_pin : "B"; power (scalar) { values ("0.25"); } } } }
  cell (INV) { area : 1; cell_leakage_power : 1;
    pin (A) { direction : input; capacitance : 0.04; }
    pin (Y) { direction : output; function : "A'";
      internal_power () { related_pin : "A"; rise_power (scalar) { values ("0.1"); } fall_power (scalar) { values ("0.2"); } } } }
  cell (XOR) { area : 3; cell_leakage_power : 1;
    pin (A) { direction : input; capacitance : 0.03; } pin (B) { direction : input; capacitance : 0.03; }
    pin (Y) { direction : output; function : "A ^ B"; } }
  cell (MUX) { area : 3; cell_leakage_power : 1;
    pin (D0) { direction : input; capacitance : 0.03; } pin (D1) { direction : input; capacitance : 0.03; }
    pin (S) { direction : input; capacitance : 0.05; }
    pin (Y) { direction : output; function : "(!S D0) | (S & D1)"; } }
  cell (DFF) { area : 5; cell_leakage_power : 6;
    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; clear : "!RB"; }
    pin (CK) { direction : input; clock : true; capacitance : 0.05;
      internal_power () { when : "D*Q"; power (scalar) { values ("0.01"); } }
      internal_power () { when : "!(D*Q)"; rise_power (scalar) { values ("0.02"); } fall_power (scalar) { values ("0.04"); } } }
    pin (D) { direction : input; capacitance : 0.07;
      internal_power () { when : "CK"; power (scalar) { values ("9"); } }
      internal_power () { rise_power (scalar) { values ("0.3"); } fall_power (scalar) { values ("0.5"); } } }
    pin (RB) { direction : input; capacitance : 0.09; }
    pin (Q) { direction : output; function : "IQ";
      internal_power () { related_pin : "CK"; rise_power (scalar) { values ("0.6"); } fall_power (scalar) { values ("0.8"); } } } }
  cell (DFFN) { area : 6; cell_leakage_power : 6;
    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }
    pin (CK) { direction : input; clock : true; capacitance : 0.05; }
    pin (D) { direction : input; capacitance : 0.07; }
    pin (Q) { direction : output; function : "IQ"; }
    pin (QN) { direction : output; function : "IQN"; } }
  cell (LATCH) { area : 6; latch (IQ, IQN) { enable : "G"; data_in : "D"; }
    pin (G) { direction : input; } pin (D) { direction : input; } pin (Q) { direction : output; function : "IQ"; } }
}
"""


def build_design(inputs, outputs, cells, clocked=True):
    """Return what Yosys' write_json gives: ports by name with their bits, cells as (type, {pin: bit})."""
    ports = {name: {"direction": "input", "bits": bits} for name, bits in inputs.items()}
    ports |= {name: {"direction": "output", "bits": bits} for name, bits in outputs.items()}
    if clocked:
        ports["clk"] = {"direction": "input", "bits": [2]}
    listed = {
        f"c{i}": {"type": kind, "connections": {pin: [bit] for pin, bit in pins.items()}}
        for i, (kind, pins) in enumerate(cells)
    }
    return {"modules": {"top": {"ports": ports, "cells": listed}}}


def evaluate(function: str, values: dict[str, int]) -> int:
    """Return a function's value by Python's own operators: only such expressions as the tiny library has."""
    text = re.sub(r"(\w+)'", r"!\1", function)
    text = re.sub(r"(\w)\s+(\w)", r"\1 & \2", text).replace("*", "&").replace("+", "|").replace("!", "1^")
    return eval(text, {}, dict(values)) & 1


class NaiveNetlist:
    """One stream. Counts toggles of settled values and with every cell a step behind its inputs, by bit of the design."""

    FUNCTIONS: ClassVar = {"NAND": "1^(A&B)", "INV": "1^A", "XOR": "A^B", "MUX": "D1 if S else D0"}

    def __init__(self, design):
        module = design["modules"]["top"]
        self.gates, self.flops = [], []
        for cell in module["cells"].values():
            pins = {pin: bits[0] for pin, bits in cell["connections"].items()}
            (self.flops if cell["type"].startswith("DFF") else self.gates).append((cell["type"], pins))
        self.values = {"0": 0, "1": 1, "x": 0}
        bits = {bit for _, pins in [*self.gates, *self.flops] for bit in pins.values()}
        bits |= {bit for port in module["ports"].values() for bit in port["bits"]}
        self.values |= {bit: 0 for bit in bits if isinstance(bit, int)}
        self.toggles = [dict.fromkeys(self.values, 0) for _ in range(2)]
        self.rises = [dict.fromkeys(self.values, 0) for _ in range(2)]
        self._settle(False)

    def step(self, inputs: dict, counted: bool) -> dict:
        before = dict(self.values)
        for kind, pins in self.flops:
            state = before[pins["D"]]
            if "Q" in pins:
                self.values[pins["Q"]] = state
            if kind == "DFFN" and "QN" in pins:
                self.values[pins["QN"]] = 1 - state
        self.values |= inputs
        if counted:
            self._count(1, before)
        self._settle(counted)
        if counted:
            self._count(0, before)
        return dict(self.values)

    def _settle(self, counted: bool) -> None:
        while True:
            now = dict(self.values)
            for kind, pins in self.gates:
                known = {pin: now[bit] for pin, bit in pins.items()}
                self.values[pins["Y"]] = eval(self.FUNCTIONS[kind], {}, known)
            if counted:
                self._count(1, now)
            if self.values == now:
                break

    def _count(self, row: int, before: dict) -> None:
        for bit, value in self.values.items():
            self.toggles[row][bit] += value != before[bit]
            self.rises[row][bit] += value > before[bit]
