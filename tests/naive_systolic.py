"""A systolic array cell by cell: registers, waves of control, shadow registers; one Python loop over clock cycles.

Two machines. ``OutputStationary`` keeps sums in the cells; ``Stationary`` keeps weights (or inputs). Operands enter at the left and
top edge, skewed by a cycle a row and column, and move one cell a cycle. Everything a cell does depends on what stands in it
and on its neighbours: nothing looks up the time. A register that would be overwritten while its value is still needed is an
AssertionError, so a schedule that runs through could be built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fold:
    """One filling of the array: when it enters, what stays (or None), what streams, and where results belong.

    ``left`` [rows, T] and ``top`` [T, cols] of ``os``; ``held`` [rows, cols] and ``left`` [rows, T] of ``ws`` and ``is``.
    """

    start: int
    left: np.ndarray
    top: np.ndarray | None = None
    held: np.ndarray | None = None
    where: tuple[int, int] = (0, 0)


@dataclass
class Outcome:
    """The product, one past the last cycle in which a cell multiplied, one past the last in which a result was written."""

    product: np.ndarray
    busy: int
    stands: int


def feed(folds: list[Fold], t: int, lane: int, delay: int, side: str):
    """Return what enters lane ``lane`` of an edge in cycle ``t``: (fold, element index), or None between folds."""
    for f, fold in enumerate(folds):
        k = t - fold.start - delay - lane
        if 0 <= k < getattr(fold, side).shape[1 if side == "left" else 0]:
            return f, k
    return None


def run_output_stationary(rows: int, cols: int, folds: list[Fold], shape: tuple[int, int]) -> Outcome:
    """Run folds on an output stationary array; results [M, N] leave by the columns from shadow registers."""
    product = np.zeros(shape, np.int64)
    written = np.zeros(shape, bool)
    empty = [[None] * cols for _ in range(rows)]
    a_reg, b_reg, acc = (np.array(empty, object) for _ in range(3))
    shadow = np.array(empty, object)  # (fold, sum) or None
    leaving: list[list] = [[None, 0] for _ in range(cols)]  # by column: fold that leaves, results still to leave
    busy = stands = t = 0
    total = sum(rows * cols for _ in folds)
    left = total
    while left:
        assert t < 100_000
        a_in = np.array(empty, object)
        b_in = np.array(empty, object)
        a_in[:, 1:], b_in[1:, :] = a_reg[:, :-1], b_reg[:-1, :]
        for i in range(rows):
            at = feed(folds, t, i, 0, "left")
            a_in[i, 0] = at and (*at, int(folds[at[0]].left[i, at[1]]))
        for j in range(cols):
            at = feed(folds, t, j, 0, "top")
            b_in[0, j] = at and (*at, int(folds[at[0]].top[at[1], j]))
        moved = shadow.copy()
        for j in range(cols):
            fold, count = leaving[j]
            if not count:
                continue
            value = shadow[rows - 1, j]
            assert value is not None
            assert value[0] == fold
            m, n = folds[fold].where[0] + count - 1, folds[fold].where[1] + j
            if m < shape[0] and n < shape[1]:
                assert not written[m, n]
                product[m, n], written[m, n] = value[1], True
            left -= 1
            stands = t + 1
            for i in range(rows):  # a cell's value moves down; what belongs to the next fold stays
                if shadow[i, j] is not None and shadow[i, j][0] == fold:
                    moved[i, j] = None
            for i in range(1, rows):
                if shadow[i - 1, j] is not None and shadow[i - 1, j][0] == fold:
                    assert moved[i, j] is None
                    moved[i, j] = shadow[i - 1, j]
            leaving[j] = [fold, count - 1]
        for i in range(rows):
            for j in range(cols):
                a, b = a_in[i, j], b_in[i, j]
                assert (a is None) == (b is None)
                if a is None:
                    continue
                assert a[:2] == b[:2], "operands that do not belong together meet"
                acc[i, j] = (0 if a[1] == 0 else acc[i, j]) + a[2] * b[2]
                busy = t + 1
                if a[1] == folds[a[0]].left.shape[1] - 1:
                    assert moved[i, j] is None, "a shadow register is overwritten before its value has left"
                    moved[i, j] = (a[0], acc[i, j])
                    if i == rows - 1:
                        assert leaving[j][1] == 0, "a column starts to leave before the last one has left"
                        leaving[j] = [a[0], rows]
        a_reg, b_reg, shadow = a_in, b_in, moved
        t += 1
    assert written.all()
    return Outcome(product, busy, stands)


def run_stationary(rows: int, cols: int, sets: int, folds: list[Fold], shape: tuple[int, int]) -> Outcome:
    """Run folds on an array that holds one operand; results [T, columns] are added up in a buffer below the columns.

    ``sets``: sets of stationary registers. One operand enters a column a cycle, R_a of them a fold, the lowest row's first; then
    ``left`` streams. A sum leaves the lowest cell of its column straight into the buffer's adder.
    """
    product = np.zeros(shape, np.int64)
    none = [[None] * cols for _ in range(rows)]
    held = np.array([none] * sets, object)  # (fold, row it is meant for, value)
    x_reg, p_reg = np.array(none, object), np.zeros((rows, cols), np.int64)
    uses: dict[tuple[int, int, int], int] = {}  # (fold, row, col) -> multiplications
    streams = [fold.left.shape[1] for fold in folds]
    busy = t = 0
    while sum(uses.values()) < rows * cols * sum(streams):
        assert t < 100_000
        x_in, p_out, loaded = np.array(none, object), np.zeros((rows, cols), np.int64), held.copy()
        x_in[:, 1:] = x_reg[:, :-1]
        for i in range(rows):
            at = feed(folds, t, i, rows, "left")
            x_in[i, 0] = at and (*at, int(folds[at[0]].left[i, at[1]]))
        for i in range(rows):
            for j in range(cols):
                if x_in[i, j] is not None:
                    f, k, x = x_in[i, j]
                    fold, row, w = held[f % sets, i, j]
                    assert (fold, row) == (f, i), "a cell multiplies with an operand that is not its own"
                    p_out[i, j] = (p_reg[i - 1, j] if i else 0) + w * x
                    uses[f, i, j] = uses.get((f, i, j), 0) + 1
                    busy = t + 1
                    if i == rows - 1 and k < shape[0] and folds[f].where[1] + j < shape[1]:
                        product[folds[f].where[0] + k, folds[f].where[1] + j] += p_out[i, j]
        for j in range(cols):
            entering = None
            for f, fold in enumerate(folds):
                if 0 <= t - fold.start - j < rows:
                    assert entering is None, "two operands enter a column at once"
                    row = rows - 1 - (t - fold.start - j)
                    entering = (f, row, int(fold.held[row, j]))
            for s in range(sets):  # an operand moves down until it is in its row
                for i in range(rows):
                    above = held[s, i - 1, j] if i else (entering if entering and entering[0] % sets == s else None)
                    if above is not None and above[1] >= i:
                        old = held[s, i, j]
                        done = old is None or old[0] != above[0]
                        if done and old is not None:
                            assert uses.get((old[0], i, j), 0) == streams[old[0]], (
                                "an operand is overwritten while in use"
                            )
                        if old is None or old[0] < above[0] or (old[0] == above[0] and old[1] > i):
                            loaded[s, i, j] = above
        x_reg, p_reg, held = x_in, p_out, loaded
        t += 1
    return Outcome(product, busy, busy)


def pad(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill a block up with zeros."""
    return np.pad(matrix, ((0, height - matrix.shape[0]), (0, width - matrix.shape[1])))


def cut_folds(
    rows: int, cols: int, flow: str, a: np.ndarray, b: np.ndarray, overlap: str, start: int = 0
) -> list[Fold]:
    """Cut the product a [M, K] @ b [K, N] into folds, entering one behind the other as ``overlap`` says."""
    m, depth, n = *a.shape, b.shape[1]
    stay, stream = {"os": ((m, n), depth), "ws": ((depth, n), m), "is": ((depth, m), n)}[flow]
    skew = rows + cols - 2 + (0 if flow == "os" else rows)
    every = stream + skew if overlap == "none" else max(stream, rows)
    folds = []
    for c in range(0, stay[1], cols):
        for r in range(0, stay[0], rows):
            at = start + every * len(folds)
            if flow == "os":
                folds.append(
                    Fold(at, pad(a[r : r + rows], rows, depth), pad(b[:, c : c + cols], depth, cols), where=(r, c))
                )
            else:
                x, w = (a, b) if flow == "ws" else (b.T, a.T)  # w [K, columns] stays, x [T, K] streams
                held = pad(w[r : r + rows, c : c + cols], rows, cols)
                folds.append(Fold(at, pad(x[:, r : r + rows].T, rows, stream), held=held, where=(0, c)))
    return folds


def multiply(rows: int, cols: int, flow: str, overlap: str, a: np.ndarray, b: np.ndarray) -> Outcome:
    """Multiply a [M, K] by b [K, N] on the array, as one tile."""
    folds = cut_folds(rows, cols, flow, a, b, overlap)
    m, n = a.shape[0], b.shape[1]
    if flow == "os":
        return run_output_stationary(rows, cols, folds, (m, n))
    outcome = run_stationary(rows, cols, 1 if overlap == "none" else 2, folds, (m, n) if flow == "ws" else (n, m))
    return outcome if flow == "ws" else Outcome(outcome.product.T, outcome.busy, outcome.stands)
