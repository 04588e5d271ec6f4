"""`CostModel`: what policies cost on an accelerator, by look-up in exact tables of every layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.errors import HwsimError, SpecError
from hwsim.core.mapping import Int64
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.tensors import Tensors
from hwsim.pipeline.prices import choose_prices
from hwsim.pipeline.simulate import Progress, resolve_arch, resolve_network, simulate
from hwsim.pipeline.workloads import list_workloads
from hwsim.search.book import Book, Job, at_formats
from hwsim.search.forms import list_columns, read_array, read_base, read_bits, refuse_range, require_range
from hwsim.search.store import Entry, Store, choose_path
from hwsim.search.structure import MOST_AXES, describe_structure
from hwsim.search.tables import MOST_BITS, Float64, Int8, OutOfRange, Tables
from hwsim.search.version import hash_sources
from hwsim.search.whole import Costs, WholePrices

Policies = Policy | str | npt.ArrayLike | Sequence[Policy | str]
"""One policy, or many: see `CostModel`."""
METRICS = ("latency_cycles", "energy_pj", "weight_bits")
"""What tables hold."""


class CostModel:
    """What policies cost on an accelerator, equal to `hwsim.simulate` of the same policy, by look-up.

    A policy is a `Policy`, a short string or file (as `simulate` takes it), or an array ``[L, 2]`` of weight and activation bits,
    1 to 16, one row a MAC layer in network order (`layers`); int8 is fastest. Many are an array ``[B, L, 2]`` or a list of
    policies. Arrays have the other fields, and the activation bits of tensors that no MAC layer reads, of ``base``.

    Prices that are not known yet are simulated when a policy asks for them, several at once, and kept on disk; `build` does
    it beforehand. A model is a snapshot: constants changed later do not reach it. Threads may share one; they take turns.

    Parameters
    ----------
    network, arch, preset, batch, objective, energy_table, fpga
        As `simulate` takes them.
    base : LayerFormat or str
        Formats of what an array does not say, ``w8a8`` by default.
    tensors, image, seed
        For accelerators whose cycles depend on data, as `simulate` takes them: such models have no tables, they
        simulate every policy as a whole, once.
    cache : bool or path
        Keep prices on disk: in the user's cache, not at all, or in this file.
    workers : int, optional
        Processes that simulate; by default one a processor.

    Raises
    ------
    HwsimError
        As `simulate`.
    """

    def __init__(
        self,
        network: Network | str,
        arch: Arch | str = "systolic",
        *,
        preset: str | None = None,
        batch: int = 1,
        objective: str = "cycles",
        energy_table: str | None = None,
        fpga: str | None = None,
        base: LayerFormat | str = "w8a8",
        tensors: Tensors | None = None,
        image: Mapping[str, Any] | None = None,
        seed: int = 0,
        cache: bool | str | Path = True,
        workers: int | None = None,
    ) -> None:
        self._model = network if isinstance(network, str) else None
        self.network, tensors, _ = resolve_network(network, batch, tensors, Policy())
        self.arch, _ = resolve_arch(arch, preset, fpga)
        self.base = read_base(base)
        self.objective = objective
        self._structure = describe_structure(self.network)
        self._rows = {name: row for row, name in enumerate(self._structure.macs)}
        prices = choose_prices(self.arch, energy_table)
        path = choose_path() if cache is True else Path(cache) if cache else None
        if self.arch.needs_data or not hash_sources(type(self.arch).__module__)[1]:
            path = None
        self._book = Book(prices, objective, Store(path), workers)
        self._lock = RLock()
        run = partial(simulate, tensors=tensors, image=image, seed=seed, energy_table=energy_table)
        self._whole = WholePrices(self.network, self.arch, self._book, run)
        self._regular = all(len(one.axes) <= MOST_AXES for one in self._structure.layers)
        stored = [self.arch.choose_stored_bits(bits) for bits in range(1, MOST_BITS + 1)]
        self._tables = Tables(self._structure, stored) if self._regular and not self.arch.needs_data else None
        self._workloads = list_workloads(self.network, Policy(default=self.base))
        self._numbers: list[int] = []

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the MAC layers: the rows of a policy array."""
        return self._structure.macs

    @property
    def clock_hz(self) -> float:
        """Clock."""
        return self.arch.clock_hz

    def accepts(self) -> npt.NDArray[np.bool_]:
        """Return which weight and activation bits each layer can run at, bool [L, 16, 16], index [layer][w - 1][a - 1]."""
        found = np.zeros((len(self.layers), MOST_BITS, MOST_BITS), bool)
        for row, name in enumerate(self.layers):
            for w, a in np.ndindex(MOST_BITS, MOST_BITS):
                load = at_formats(self._workloads[name], (w + 1, a + 1, a + 1, a + 1))
                try:
                    self.arch.check(load)
                except HwsimError:
                    continue
                found[row, w, a] = True
        return found

    def price(self, policies: Policies) -> Costs:
        """Return all costs of one policy or of many."""
        cycles = self.latency_cycles(policies)
        energy = self.energy_pj(policies)
        seconds = cycles / self.clock_hz
        return Costs(
            latency_cycles=cycles,
            latency_s=seconds,
            energy_pj=energy,
            edp=energy * 1e-12 * seconds,
            weight_bits=self.weight_bits(policies),
            peak_activation_bits=self.peak_activation_bits(policies),
        )

    def latency_cycles(self, policies: Policies) -> Any:
        """Return the cycles of one pass: int, or int64 [B].

        Raises
        ------
        SpecError, Infeasible, UnknownName
            Bits or formats that the accelerator has not, as `simulate` raises them; arrays of another shape.
        """
        return self._look_up(policies, "latency_cycles")

    def latency_s(self, policies: Policies) -> Any:
        """Return the seconds of one pass: float, or float64 [B]."""
        return self.latency_cycles(policies) / self.clock_hz

    def energy_pj(self, policies: Policies) -> Any:
        """Return the energy of one pass in pJ: float, or float64 [B]."""
        return self._look_up(policies, "energy_pj")

    def edp(self, policies: Policies) -> Any:
        """Return the energy-delay product of one pass in J*s: float, or float64 [B]."""
        return self.energy_pj(policies) * 1e-12 * self.latency_s(policies)

    def weight_bits(self, policies: Policies) -> Any:
        """Return the stored bits of all weights: int, or int64 [B]."""
        return self._look_up(policies, "weight_bits")

    def peak_activation_bits(self, policies: Policies) -> Any:
        """Return the largest sum of live activation tensors, bits: int, or int64 [B]."""
        return self._look_up(policies, "peak_activation_bits")

    def _look_up(self, policies: Policies, metric: str) -> Any:
        with self._lock:
            return self._find(policies, metric)

    def _find(self, policies: Policies, metric: str) -> Any:
        if isinstance(policies, list | tuple) and any(isinstance(one, Policy | str) for one in policies):
            return np.array([self._find(policy, metric) for policy in policies], _find_dtype(metric))
        if isinstance(policies, Policy | str):
            policy = self._read_policy(policies) if isinstance(policies, str) else policies
            columns = None if self._tables is None else list_columns(policy, self.base, self._rows)
            if columns is None:
                return getattr(self._whole.price(policy), metric)
            return self._sum(columns, policy.default.a_bits, metric)[0].item()
        array = read_array(policies, len(self.layers))
        if self._tables is None:
            require_range(array, policies, self.layers)
            rows = array.reshape(-1, len(self.layers), 2)
            found = [getattr(self._whole.price(self.to_policy(row)), metric) for row in rows]
            return np.array(found, _find_dtype(metric)) if array.ndim == 3 else found[0]
        try:
            sums = self._sum(array.reshape(-1, 2 * len(self.layers)), self.base.a_bits, metric)
        except OutOfRange:
            refuse_range(policies, self.layers)
        return sums if array.ndim == 3 else sums[0].item()

    def _sum(self, columns: Int8, default: int, metric: str) -> Int64 | Float64:
        tables = self._tables
        assert tables is not None
        if metric == "latency_cycles":
            return tables.sum_cycles(columns, default, self._build)
        if metric == "energy_pj":
            return tables.sum_energies(columns, default, self._build)
        if metric == "weight_bits":
            return tables.sum_weight_bits(columns, default, self._build)
        return tables.find_peaks(columns, default)

    def _read_policy(self, text: str) -> Policy:
        from hwsim.policies.read import resolve_policy

        return resolve_policy(text, self.network, self._model).policy

    def to_policy(self, array: npt.ArrayLike) -> Policy:
        """Return one array ``[L, 2]`` as a Policy.

        Raises
        ------
        SpecError
            Another shape, no integers, bits that are not 1 to 16.
        """
        rows = read_array(array, len(self.layers))
        if rows.ndim != 2:
            raise SpecError("policy.shape", rows.shape, f"[{len(self.layers)}, 2]")
        require_range(rows, array, self.layers)
        formats = (replace(self.base, w_bits=w, a_bits=a) for w, a in rows.tolist())
        return Policy(default=self.base, layers=tuple(zip(self.layers, formats, strict=True)))

    def to_array(self, policy: Policy | str) -> Int8:
        """Return the bits of a policy's convolutions and gemms, int8 [L, 2]; other activations are at ``base``'s in an array.

        Raises
        ------
        UnknownName
            The policy names a layer that the network has not.
        SpecError
            It differs from ``base`` in more than bits.
        """
        found = self._read_policy(policy) if isinstance(policy, str) else policy
        found.check(self.network)
        columns = list_columns(found, self.base, self._rows)
        if columns is None:
            expected = f"operators, codecs, scales, bits of channels and groups of the base, {self.base.short}"
            raise SpecError("policy", found.short, expected, "an array holds bits alone; ask for the policy itself")
        return columns.reshape(-1, 2)

    def _number(self, index: int) -> int:
        if not self._numbers:
            self._numbers = [self._book.number(self._workloads[one.layer.name]) for one in self._structure.layers]
        return self._numbers[index]

    def _build(self, places: Iterable[int], progress: Progress | None = None, refused: bool = False) -> None:
        """Fill entries of the tables; raises for the first that cannot be run unless ``refused`` ones may stay empty."""
        tables, layers = self._tables, self._structure.layers
        assert tables is not None
        jobs: list[tuple[int, int, Job]] = []
        for place in places:
            index, values = tables.decode(int(place))
            jobs.append((int(place), index, (self._number(index), layers[index].formats(values))))
        self._book.build([job for _, _, job in jobs], progress)
        for place, index, job in jobs:
            entry = self._book.find(job)
            if entry is not None:
                tables.fill(place, entry)
            elif not refused:
                self._book.explain(at_formats(self._workloads[layers[index].layer.name], job[1]))

    def build(
        self, w_bits: Iterable[int] = range(1, 9), a_bits: Iterable[int] = range(1, 9), progress: Progress | None = None
    ) -> None:
        """Simulate beforehand what policies of these bits can ask for; what the accelerator refuses is left out.

        Raises
        ------
        HwsimError
            Cycles depend on data: there are no tables.
        """
        tables = self._require_tables()
        w, a = (read_bits(name, bits) for name, bits in (("w_bits", w_bits), ("a_bits", a_bits)))
        places = [
            place
            for index in range(len(self._structure.layers))
            for place in tables.list_reachable(index, w, a, self.base.a_bits)
        ]
        with self._lock:
            self._build(places, progress, refused=True)

    def table(
        self, layer: str, metric: str = "latency_cycles", in_bits: int | None = None, out_bits: int | None = None,
        most_bits: int = 8,
    ) -> Int64 | Float64:  # fmt: skip
        """Return what one MAC layer costs at every precision, ``[most_bits, most_bits]``, index ``[w - 1][a - 1]``.

        A plain array: a differentiable search multiplies its probabilities with it. The layer's price depends besides on the
        bits at which its input and its output are stored. By default both follow its own ``a``, as in the network at uniform bits.

        Parameters
        ----------
        layer : str
            A MAC layer.
        metric : str
            ``latency_cycles`` or ``weight_bits`` (int64; -1 where the accelerator refuses), ``energy_pj`` (float64; NaN there).
        in_bits, out_bits : int, optional
            Bits of the stored input (never less than ``a``: the layer reads it at its own) and output.
        most_bits : int
            1 to 16.

        Raises
        ------
        UnknownName, SpecError
        HwsimError
            Cycles depend on data: there are no tables.
        """
        self._require_tables()
        self.network.layer(layer)
        if layer not in self._rows:
            raise SpecError("layer", layer, "a convolution or gemm")
        place = _find_metric(metric)
        (most,) = read_bits("most_bits", (most_bits,))
        for name, bits in (("in_bits", in_bits), ("out_bits", out_bits)):
            if bits is not None:
                read_bits(name, (bits,))
        with self._lock:
            number = self._book.number(self._workloads[layer])
            jobs: list[Job] = [
                (number, (w + 1, a + 1, max(a + 1, in_bits or 0), out_bits or a + 1)) for w, a in np.ndindex(most, most)
            ]
            entries = self._book.find_some(jobs)
        return _fill_table(entries, place).reshape(most, most)

    def lut(
        self, metric: str = "latency_cycles", most_bits: int = 8, progress: Progress | None = None
    ) -> Int64 | Float64:
        """Return what all MAC layers cost in HAQ's layout, ``[L, most_bits, most_bits]``, index ``[layer][w - 1][a - 1]``.

        An entry is the layer's row in the network at uniform bits (``w4a6``): its input and output are stored at ``a`` too. Layers
        without weights are not in it. int64, -1 where the accelerator refuses; float64 for ``energy_pj``, NaN there.

        Raises
        ------
        SpecError, Infeasible
            The accelerator refuses all entries of a layer.
        HwsimError
            Cycles depend on data: there is no table.
        """
        self._require_tables()
        (most,) = read_bits("most_bits", (most_bits,))
        place = _find_metric(metric)
        loads = [self._workloads[name] for name in self.layers]
        formats = [(w + 1, a + 1, a + 1, a + 1) for w, a in np.ndindex(most, most)]

        with self._lock:
            jobs = [(number, one) for number in map(self._book.number, loads) for one in formats]
            entries = self._book.find_some(jobs, progress)
            for row, load in enumerate(loads):
                if not any(entries[row * len(formats) : (row + 1) * len(formats)]):
                    self._book.explain(at_formats(load, formats[-1]))
        return _fill_table(entries, place).reshape(-1, most, most)

    def _require_tables(self) -> Tables:
        if self.arch.needs_data:
            raise HwsimError(
                f"{self.arch.name} has no tables: its cycles depend on the tensors, and a layer's input on all layers before it"
            )
        if self._tables is None:
            raise HwsimError(
                f"{self.network.name} has no tables: a layer's price depends on more than {MOST_AXES} precisions"
            )
        return self._tables


def _fill_table(entries: list[Entry | None], place: int) -> Int64 | Float64:
    """Return one figure of each price; of one that is refused -1, NaN where the figure is no integer."""
    absent = float("nan") if METRICS[place] == "energy_pj" else -1
    return np.array([absent if entry is None else entry[place] for entry in entries])


def _find_metric(metric: str) -> int:
    if metric not in METRICS:
        raise SpecError("metric", metric, " or ".join(METRICS))
    return METRICS.index(metric)


def _find_dtype(metric: str) -> type[np.int64] | type[np.float64]:
    return np.float64 if metric == "energy_pj" else np.int64
