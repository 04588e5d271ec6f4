"""Standard cells as a Liberty file describes them: what they compute, what their pins load, what they take of energy.

Read are the groups that energy needs: functions, flip-flops, pin capacitances, internal power and leakage; delays are not.
Internal power is the energy of one transition beyond that of the load that a pin drives; its unit is that of capacitance
times voltage squared (Liberty User Guide, "Modeling Power and Electromigration").
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from hwsim.core.errors import InputError

PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}


@dataclass(slots=True)
class Group:
    """A group as it stands in the file: ``kind (arguments) { values, groups }``."""

    kind: str
    arguments: tuple[str, ...]
    line: int
    values: dict[str, str] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def list_groups(self, *kinds: str) -> list[Group]:
        """Return the groups of some kinds directly within."""
        return [group for group in self.groups if group.kind in kinds]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTable:
    """Energy of a transition, pJ.

    Parameters
    ----------
    slews_ns, loads_pf : tuple of float
        Axes; empty where the energy does not depend on it.
    values_pj : tuple of float
        One row of loads a slew.
    """

    slews_ns: tuple[float, ...] = ()
    loads_pf: tuple[float, ...] = ()
    values_pj: tuple[float, ...] = (0.0,)

    def evaluate(self, slew_ns: float, load_pf: float) -> float:
        """Return the energy, bilinear between the table's points; beyond its edges that of the edge."""
        row, a = _locate(self.slews_ns, slew_ns)
        column, b = _locate(self.loads_pf, load_pf)
        width = max(1, len(self.loads_pf))
        at = row * width + column
        values, down, right = self.values_pj, width if a else 0, 1 if b else 0
        upper = values[at] * (1 - b) + values[at + right] * b
        lower = values[at + down] * (1 - b) + values[at + down + right] * b
        return upper * (1 - a) + lower * a


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerArc:
    """Internal power of a pin's transitions.

    Parameters
    ----------
    related : tuple of str
        Input pins that may cause it; empty for power of the pin itself.
    when : str
        Condition on other pins; empty: any.
    rise, fall : PowerTable
    """

    related: tuple[str, ...]
    when: str
    rise: PowerTable
    fall: PowerTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A pin of a cell.

    Parameters
    ----------
    name : str
    output : bool
    capacitance_pf : float
    function : str
        Of an output; empty where there is none.
    tristate : bool
        Whether it may be let go.
    power : tuple of PowerArc
    """

    name: str
    output: bool
    capacitance_pf: float
    function: str
    tristate: bool
    power: tuple[PowerArc, ...]

    @property
    def plain_function(self) -> str:
        """The function without the parentheses around it."""
        return self.function.strip(" ()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """The flip-flop of a cell: expressions of its pins.

    Parameters
    ----------
    state, inverse : str
        Names by which outputs call it and its complement.
    clock, next_state, clear, preset : str
        Empty where it has none.
    """

    state: str
    inverse: str
    clock: str
    next_state: str
    clear: str
    preset: str

    @property
    def clock_pin(self) -> str:
        """The pin of the clock, of a rising edge; with a ``!`` before it of a falling one."""
        return self.clock.strip(" ()")

    def inverts(self, output: Pin) -> bool:
        """Return whether an output gives the complement of the state."""
        return output.plain_function == self.inverse


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryCell:
    """A standard cell.

    Parameters
    ----------
    name : str
    area_um2 : float
        In the library's unit of area, square micrometres as a rule.
    leakage_w : float
        ``cell_leakage_power``, or the mean over its states.
    pins : tuple of Pin
    register : Register, optional
    latch : bool
        It holds a state that is no flip-flop's.
    """

    name: str
    area_um2: float
    leakage_w: float
    pins: tuple[Pin, ...]
    register: Register | None
    latch: bool

    @property
    def inputs(self) -> tuple[Pin, ...]:
        """Pins that are driven."""
        return tuple(pin for pin in self.pins if not pin.output)

    @property
    def outputs(self) -> tuple[Pin, ...]:
        """Pins that drive."""
        return tuple(pin for pin in self.pins if pin.output)

    def find_pin(self, name: str) -> Pin:
        """Return a pin by its name; KeyError if there is none."""
        for pin in self.pins:
            if pin.name == name:
                return pin
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library at its nominal voltage.

    Parameters
    ----------
    name : str
    voltage_v, temperature_c : float
    cells : mapping
        By name.
    """

    name: str
    voltage_v: float
    temperature_c: float
    cells: Mapping[str, LibraryCell]


def read_library(path: Path) -> Library:
    """Read a library.

    Raises
    ------
    InputError
        The file cannot be read or is no Liberty file; it names no voltage; none of its cells has internal power.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise InputError(str(path), [error.strerror or str(error)]) from None
    return _read_library(str(path), text)


@lru_cache(maxsize=2)
def _read_library(where: str, text: str) -> Library:
    root = parse_groups(where, text)
    if root.kind != "library":
        raise InputError(where, [f"line {root.line}: got {root.kind!r}, expected library"])
    units = _Units(where, root)
    templates = {group.arguments[0]: group for group in root.list_groups("power_lut_template") if group.arguments}
    cells = {}
    for group in root.list_groups("cell"):
        cell = _read_cell(where, group, units, templates)
        cells[cell.name] = cell
    if not any(pin.power for cell in cells.values() for pin in cell.pins):
        raise InputError(where, [f"library {units.name} has no internal_power in any cell: no energy comes from it"])
    return Library(
        name=units.name, voltage_v=units.voltage_v, temperature_c=units.temperature_c, cells=cells
    )  # fmt: skip


_TOKEN = re.compile(
    r"\s+|/\*.*?\*/|//[^\n]*|\\\n"
    r"|(?P<close>\})|(?P<semi>;)"
    r"|(?P<name>[A-Za-z_][\w.]*)\s*(?:"
    r"\((?P<args>(?:\"[^\"]*\"|[^()\"])*)\)\s*(?P<open>\{)?"
    r"|:\s*(?P<value>\"[^\"]*\"|[^;{}\n]+))",
    re.DOTALL,
)


def parse_groups(where: str, text: str) -> Group:
    """Return the outermost group of a Liberty text.

    Raises
    ------
    InputError
        Text that is none, with its line.
    """
    stack: list[Group] = []
    root, at = None, 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or (found["close"] and not stack) or (found["name"] and not found["open"] and not stack):
            line = text.count("\n", 0, at) + 1
            raise InputError(where, [f"line {line}: not Liberty: {text[at : at + 30].splitlines()[0]!r}"])
        at = found.end()
        if found["close"]:
            stack.pop()
        elif found["open"]:
            group = Group(
                found["name"], _split(found["args"]), text.count("\n", 0, found.start()) + 1 if not stack else 0
            )
            if stack:
                stack[-1].groups.append(group)
            elif root is None:
                root = group
            stack.append(group)
        elif found["name"]:
            value = found["value"] if found["value"] is not None else found["args"]
            stack[-1].values[found["name"]] = value.strip().strip('"') if found["value"] is not None else value
    if root is None or stack:
        raise InputError(where, ["not Liberty: no group" if root is None else f"group {stack[-1].kind} is not closed"])
    return root


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[\s,\"\\]+", text) if part)


class _Units:
    """Units and conditions of a library."""

    def __init__(self, where: str, root: Group) -> None:
        values = root.values
        self.name = root.arguments[0] if root.arguments else ""
        voltage = values.get("nom_voltage", "")
        self.voltage_v = _read_number(where, "nom_voltage", voltage)
        self.temperature_c = float(values.get("nom_temperature", 25))
        load = _split(values.get("capacitive_load_unit", "1, pf"))
        self.load_pf = float(load[0]) * PREFIXES.get(load[1].lower().removesuffix("f"), 1e-12) / 1e-12
        volt = _read_unit(where, values.get("voltage_unit", "1V"), "V")
        self.time_ns = _read_unit(where, values.get("time_unit", "1ns"), "s") / 1e-9
        self.leakage_w = _read_unit(where, values.get("leakage_power_unit", "1nW"), "W")
        self.energy_pj = self.load_pf * volt**2
        self.default_load_pf = float(values.get("default_input_pin_cap", 0)) * self.load_pf


def _read_unit(where: str, text: str, unit: str) -> float:
    found = re.fullmatch(rf"\s*([\d.eE+-]*)\s*([munpf]?){unit}\s*", text, re.IGNORECASE)
    if found is None:
        raise InputError(where, [f"unit {text!r}, expected one of {unit}"])
    return float(found[1] or 1) * PREFIXES[found[2].lower()]


def _read_number(where: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(where, [f"{name}: got {text!r}, expected a number"]) from None


def _read_cell(where: str, group: Group, units: _Units, templates: Mapping[str, Group]) -> LibraryCell:
    name = group.arguments[0] if group.arguments else ""
    registers, latches = group.list_groups("ff"), group.list_groups("latch", "statetable", "ff_bank", "latch_bank")
    register = None
    if registers:
        ff = registers[0]
        register = Register(
            state=ff.arguments[0], inverse=ff.arguments[1] if len(ff.arguments) > 1 else "", clock=ff.values.get("clocked_on", ""),
            next_state=ff.values.get("next_state", ""), clear=ff.values.get("clear", ""), preset=ff.values.get("preset", ""),
        )  # fmt: skip
    leakage = group.values.get("cell_leakage_power")
    states = [float(one.values["value"]) for one in group.list_groups("leakage_power") if "value" in one.values]
    power = float(leakage) if leakage is not None else sum(states) / max(1, len(states))
    pins = tuple(
        pin
        for part in group.list_groups("pin")
        for title in part.arguments
        for pin in [_read_pin(where, title, part, units, templates)]
    )
    return LibraryCell(
        name=name, area_um2=float(group.values.get("area", 0)), leakage_w=power * units.leakage_w, pins=pins, register=register,
        latch=bool(latches),
    )  # fmt: skip


def _read_pin(where: str, name: str, group: Group, units: _Units, templates: Mapping[str, Group]) -> Pin:
    values = group.values
    output = values.get("direction", "input") != "input"
    load = float(values["capacitance"]) * units.load_pf if "capacitance" in values else units.default_load_pf
    power = []
    for one in group.list_groups("internal_power"):
        tables = {part.kind: _read_table(where, part, units, templates) for part in one.groups}
        both = tables.get("power", PowerTable())
        power.append(PowerArc(
            related=_split(one.values.get("related_pin", "")), when=one.values.get("when", ""),
            rise=tables.get("rise_power", both), fall=tables.get("fall_power", both),
        ))  # fmt: skip
    return Pin(
        name=name, output=output, capacitance_pf=0.0 if output else load, function=values.get("function", ""),
        tristate="three_state" in values, power=tuple(power),
    )  # fmt: skip


def _read_table(where: str, group: Group, units: _Units, templates: Mapping[str, Group]) -> PowerTable:
    template = templates.get(group.arguments[0]) if group.arguments else None
    known = template.values if template is not None else {}
    axes: dict[str, tuple[float, ...]] = {}
    for k in ("1", "2"):
        points = group.values.get(f"index_{k}", known.get(f"index_{k}", ""))
        if points and template is not None:
            axes[known.get(f"variable_{k}", "")] = tuple(float(point) for point in _split(points))
    slews = axes.pop("input_transition_time", ())
    loads = axes.pop("total_output_net_capacitance", ())
    if axes:
        raise InputError(
            where,
            [f"{group.kind}: axis {min(axes)!r}, expected input_transition_time and total_output_net_capacitance"],
        )
    values = [float(point) * units.energy_pj for point in _split(group.values.get("values", "0"))]
    if len(values) != max(1, len(slews)) * max(1, len(loads)):
        raise InputError(where, [f"{group.kind}: {len(values)} values for {len(slews)} slews and {len(loads)} loads"])
    if slews and loads and known.get("variable_1") == "total_output_net_capacitance":
        values = [values[column * len(slews) + row] for row in range(len(slews)) for column in range(len(loads))]
    return PowerTable(
        slews_ns=tuple(x * units.time_ns for x in slews), loads_pf=tuple(x * units.load_pf for x in loads), values_pj=tuple(values)
    )  # fmt: skip


def _locate(points: Sequence[float], value: float) -> tuple[int, float]:
    """Return the point before a value and how far it is to the next, both held within the axis."""
    if len(points) < 2 or value <= points[0]:
        return 0, 0.0
    if value >= points[-1]:
        return len(points) - 1, 0.0
    at = bisect_right(points, value) - 1
    return at, (value - points[at]) / (points[at + 1] - points[at])


def list_terms(cell: LibraryCell) -> Iterator[str]:
    """Yield the pins that a cell's combinational outputs, or its next state, may read: all inputs but the clock."""
    clock = cell.register.clock_pin.strip("!'() ") if cell.register else ""
    yield from (pin.name for pin in cell.inputs if pin.name != clock)
