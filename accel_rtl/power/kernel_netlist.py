"""Kernels that run a netlist of gates, 64 streams at once, a bit of each net's word a stream.

Arrays are those of `mapped.MappedNetlist`. Two ways to pass a cycle: cells in their order, so that every net has its
settled value at once; or every cell a unit of time behind its inputs, which shows what a net does until it settles. Counts of a
net come by way: row 0 between settled values, row 1 with what is in between (filled where ``timed``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwsim.core.jit import kernel

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_FIVES, _THREES, _ONES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_U0, _U1, _U2, _U3, _U4 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
_U8, _U16, _U32, _U127 = np.uint64(8), np.uint64(16), np.uint64(32), np.uint64(127)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel
def count_ones(word: np.uint64) -> np.int64:
    """Return how many bits of a uint64 are set, int64."""
    word = word - ((word >> _U1) & _FIVES)
    word = (word & _THREES) + ((word >> _U2) & _THREES)
    word = (word + (word >> _U4)) & _ONES
    word = word + (word >> _U8)
    word = word + (word >> _U16)
    word = word + (word >> _U32)
    return np.int64(word & _U127)


@kernel
def look_up(truth: np.uint64, first: int, last: int, inputs: Ints, values: Words, scratch: Words) -> np.uint64:
    """Return a truth table's value over nets ``inputs[first:last]``, uint64; ``scratch`` has 32 words."""
    count = last - first
    if count == 0:
        return _FULL if truth & _U1 else _U0
    x = values[inputs[first]]
    size = 1 << (count - 1)
    for j in range(size):
        pair = (truth >> np.uint64(2 * j)) & _U3
        if pair == _U0:
            scratch[j] = _U0
        elif pair == _U1:
            scratch[j] = ~x
        elif pair == _U2:
            scratch[j] = x
        else:
            scratch[j] = _FULL
    for k in range(1, count):
        x = values[inputs[first + k]]
        size >>= 1
        for j in range(size):
            low = scratch[2 * j]
            scratch[j] = low ^ ((low ^ scratch[2 * j + 1]) & x)
    return scratch[0]


@kernel
def settle(cell_out: Ints, cell_first: Ints, cell_inputs: Ints, cell_truth: Words, values: Words) -> None:
    """Set the outputs of all cells, in their order."""
    scratch = np.empty(32, np.uint64)
    for i in range(cell_out.size):
        values[cell_out[i]] = look_up(cell_truth[i], cell_first[i], cell_first[i + 1], cell_inputs, values, scratch)


@kernel
def queue_readers(net: int, step: int, fan_first: Ints, fan_cells: Ints, many: int, queued: Ints, queue: Ints) -> int:
    """Put the cells that read a net behind the ``many`` of a step's queue, each once; return how many it has then."""
    for k in range(fan_first[net], fan_first[net + 1]):
        cell = fan_cells[k]
        if queued[cell] != step:
            queued[cell] = step
            queue[many] = cell
            many += 1
    return many


@kernel
def count_settled(
    before: Words, values: Words, lanes: np.uint64, cell_out: Ints, cell_first: Ints, cell_inputs: Ints, toggles: Ints,
    rises: Ints, shares: Ints,
) -> None:  # fmt: skip
    """Add a cycle's changes of settled values to row 0 of the counts; arrays as in `run_cycles`."""
    for net in range(values.size):
        differs = (values[net] ^ before[net]) & lanes
        if differs != _U0:
            toggles[0, net] += count_ones(differs)
            rises[0, net] += count_ones(differs & values[net])
    for i in range(cell_out.size):
        differs = (values[cell_out[i]] ^ before[cell_out[i]]) & lanes
        if differs != _U0:
            up = differs & values[cell_out[i]]
            down = differs & ~values[cell_out[i]]
            for k in range(cell_first[i], cell_first[i + 1]):
                moved = values[cell_inputs[k]] ^ before[cell_inputs[k]]
                shares[0, 0, k] += count_ones(down & moved)
                shares[0, 1, k] += count_ones(up & moved)


@kernel
def count_states(
    values: Words, lanes: np.uint64, reg_out: Ints, reg_first: Ints, reg_inputs: Ints, state_first: Ints, states: Ints
) -> None:
    """Add a cycle to the state of inputs and output in which each register is; arrays as in `run_cycles`."""
    for i in range(reg_out.size):
        count = reg_first[i + 1] - reg_first[i]
        for state in range(2 << count):
            word = lanes
            for k in range(count):
                x = values[reg_inputs[reg_first[i] + k]]
                word &= x if state >> k & 1 else ~x
            x = values[reg_out[i]]
            word &= x if state >> count & 1 else ~x
            if word != _U0:
                states[state_first[i] + state] += count_ones(word)


@kernel
def evaluate_cells(
    todo: Ints, many: int, cell_first: Ints, cell_inputs: Ints, cell_truth: Words, values: Words, scratch: Words, fresh: Words
) -> None:  # fmt: skip
    """Set ``fresh[:many]`` to what the cells ``todo[:many]`` give for the values that stand."""
    for j in range(many):
        cell = todo[j]
        fresh[j] = look_up(cell_truth[cell], cell_first[cell], cell_first[cell + 1], cell_inputs, values, scratch)


@kernel
def count_changes(
    todo: Ints, many: int, fresh: Words, values: Words, lanes: np.uint64, cell_out: Ints, cell_first: Ints, cell_inputs: Ints,
    change: Words, stamp: Ints, step: int, toggles: Ints, rises: Ints, shares: Ints,
) -> None:  # fmt: skip
    """Add what outputs of ``todo[:many]`` are about to change to row 1 of the counts, and which inputs changed in ``step``."""
    for j in range(many):
        cell = todo[j]
        net = cell_out[cell]
        differs = (fresh[j] ^ values[net]) & lanes
        if differs != _U0:
            up = differs & fresh[j]
            down = differs & ~fresh[j]
            toggles[1, net] += count_ones(differs)
            rises[1, net] += count_ones(up)
            for k in range(cell_first[cell], cell_first[cell + 1]):
                source = cell_inputs[k]
                if stamp[source] == step:
                    shares[1, 0, k] += count_ones(down & change[source])
                    shares[1, 1, k] += count_ones(up & change[source])


@kernel
def settle_by_steps(
    driven: Ints, before: Words, step: int, lanes: np.uint64, cell_out: Ints, cell_first: Ints, cell_inputs: Ints,
    cell_truth: Words, fan_first: Ints, fan_cells: Ints, values: Words, change: Words, stamp: Ints, queued: Ints, todo: Ints,
    later: Ints, fresh: Words, scratch: Words, toggles: Ints, rises: Ints, shares: Ints,
) -> int:  # fmt: skip
    """Let the changes of nets ``driven`` pass through the cells, each a step of time; return the last step.

    Counts go to row 1; arrays as in `run_cycles`. ``change`` uint64 [nets] is how a net changed in step ``stamp`` int64 [nets];
    ``queued`` int64 [cells] is the step for which a cell was queued last; ``todo``, ``later``, ``fresh`` [cells] are room.
    """
    step += 1
    many = 0
    for net in driven:
        differs = values[net] ^ before[net]
        if differs != _U0 and stamp[net] != step:
            change[net] = differs
            stamp[net] = step
            toggles[1, net] += count_ones(differs & lanes)
            rises[1, net] += count_ones(differs & values[net] & lanes)
            many = queue_readers(net, step, fan_first, fan_cells, many, queued, todo)
    while many > 0:
        evaluate_cells(todo, many, cell_first, cell_inputs, cell_truth, values, scratch, fresh)
        count_changes(
            todo,
            many,
            fresh,
            values,
            lanes,
            cell_out,
            cell_first,
            cell_inputs,
            change,
            stamp,
            step,
            toggles,
            rises,
            shares,
        )
        step += 1
        more = 0
        for j in range(many):
            net = cell_out[todo[j]]
            differs = fresh[j] ^ values[net]
            if differs != _U0:
                values[net] = fresh[j]
                change[net] = differs
                stamp[net] = step
                more = queue_readers(net, step, fan_first, fan_cells, more, queued, later)
        todo, later = later, todo
        many = more
    return step


@kernel
def run_cycles(
    stimulus: Words, in_nets: Ints, out_nets: Ints, cell_out: Ints, cell_first: Ints, cell_inputs: Ints, cell_truth: Words,
    fan_first: Ints, fan_cells: Ints, reg_out: Ints, reg_first: Ints, reg_inputs: Ints, reg_truth: Words, state_first: Ints,
    lanes: np.uint64, counted: int, timed: int, values: Words, toggles: Ints, rises: Ints, shares: Ints, states: Ints,
    outputs: Words,
) -> None:  # fmt: skip
    """Run cycles: inputs change and registers take their next value, cells settle, outputs are seen.

    Parameters
    ----------
    stimulus : ndarray uint64 [T, inputs]
    in_nets, out_nets : ndarray int64
        Nets that are set, and that are seen.
    cell_*, reg_* : ndarray
        Of `Functions`.
    fan_first, fan_cells : ndarray int64
        Cells that read each net.
    state_first : ndarray int64 [registers + 1]
        Where the states of each begin in ``states``: 2 ** (inputs + 1), its own output the highest bit.
    lanes : uint64
        Streams that count.
    counted, timed : int64
        Whether to count; whether cells take time.
    values : ndarray uint64 [nets]
        Changed: settled values.
    toggles, rises : ndarray int64 [2, nets]
        Added to.
    shares : ndarray int64 [2, 2, cell inputs]
        Added to: falls and rises of a cell's output that came with a change of this input.
    states : ndarray int64
        Added to: cycles that registers passed in each state of inputs and output.
    outputs : ndarray uint64 [T, outputs]
        Filled.
    """
    scratch = np.empty(32, np.uint64)
    before = np.empty(values.size, np.uint64)
    following = np.empty(reg_out.size, np.uint64)
    driven = np.concatenate((reg_out, in_nets))
    change, stamp, queued = np.zeros(values.size, np.uint64), np.full(values.size, -1), np.full(cell_out.size, -1)
    todo, later = np.empty(cell_out.size, np.int64), np.empty(cell_out.size, np.int64)
    fresh = np.empty(cell_out.size, np.uint64)
    step = 0
    for t in range(stimulus.shape[0]):
        before[:] = values
        for i in range(reg_out.size):
            following[i] = look_up(reg_truth[i], reg_first[i], reg_first[i + 1], reg_inputs, values, scratch)
        for i in range(reg_out.size):
            values[reg_out[i]] = following[i]
        for i in range(in_nets.size):
            values[in_nets[i]] = stimulus[t, i]
        if timed == 0 or counted == 0:
            settle(cell_out, cell_first, cell_inputs, cell_truth, values)
        else:
            step = settle_by_steps(
                driven, before, step, lanes, cell_out, cell_first, cell_inputs, cell_truth, fan_first, fan_cells, values, change,
                stamp, queued, todo, later, fresh, scratch, toggles, rises, shares,
            )  # fmt: skip
        for i in range(out_nets.size):
            outputs[t, i] = values[out_nets[i]]
        if counted == 1:
            count_settled(before, values, lanes, cell_out, cell_first, cell_inputs, toggles, rises, shares)
            count_states(values, lanes, reg_out, reg_first, reg_inputs, state_first, states)
