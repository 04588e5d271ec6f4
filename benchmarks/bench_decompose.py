"""Time of the SmartDeal decomposition on whole networks, one core, and against the naive version.

Usage: ``python benchmarks/bench_decompose.py``. Weights are synthetic: normal, std = sqrt(2 / fan in) (He), seed 0.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

Shape = tuple[int, int, int, int]


def list_resnet18_shapes() -> list[Shape]:
    """Return the [K, C, R, S] of ResNet-18's 21 weight layers (11.68 M weights)."""
    shapes: list[Shape] = [(64, 3, 7, 7)]
    channels = 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            shapes += [(width, channels, 3, 3), (width, width, 3, 3)]
            if block == 0 and width != channels:
                shapes.append((width, channels, 1, 1))
            channels = width
    return [*shapes, (1000, 512, 1, 1)]


def list_mobilenetv2_shapes() -> list[Shape]:
    """Return the [K, C, R, S] of MobileNetV2's 53 weight layers (3.47 M weights)."""
    shapes: list[Shape] = [(32, 3, 3, 3)]
    channels = 32
    stages = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    for expansion, width, repeats in stages:
        for _ in range(repeats):
            hidden = expansion * channels
            if expansion > 1:
                shapes.append((hidden, channels, 1, 1))
            shapes += [(hidden, 1, 3, 3), (width, hidden, 1, 1)]
            channels = width
    return [*shapes, (1280, 320, 1, 1), (1000, 1280, 1, 1)]


def draw_weights(shapes: list[Shape], seed: int = 0) -> list[np.ndarray]:
    """Return float32 tensors, He-initialized."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32) for shape in shapes]


def main() -> None:
    from hwsim.quant.decompose import DecomposeOptions, StorageBits, decompose_layer

    start = time.perf_counter()
    decompose_layer(np.ones((4, 8, 3, 3), dtype=np.float32))
    print(f"first call (import, and compilation if the cache is cold): {time.perf_counter() - start:.2f} s")
    for name, shapes, limit in (
        ("resnet18", list_resnet18_shapes(), 20),
        ("mobilenetv2", list_mobilenetv2_shapes(), 10),
    ):
        weights = draw_weights(shapes)
        start = time.process_time()
        results = [decompose_layer(weight, DecomposeOptions()) for weight in weights]
        seconds = time.process_time() - start
        stored = sum((r.storage_bits for r in results), StorageBits())
        dense_bits = sum(r.plan.dense_bits for r in results)
        rounds = np.concatenate([r.iterations.ravel() for r in results])
        decomposed = [r for r in results if not r.plan.is_dense]
        float_error = np.mean([r.float_error for r in decomposed])
        integer_error = np.mean([r.integer_error for r in decomposed])
        print(
            f"{name}: {dense_bits // 8 / 1e6:.2f} M weights, {len(decomposed)} of {len(results)} layers decomposed, "
            f"{seconds:.2f} s of CPU (limit {limit} s), {rounds.mean():.1f} rounds a slice, "
            f"{dense_bits / stored.total_bits:.2f}x smaller than int8; "
            f"error float {float_error:.4f}, integer {integer_error:.4f}"
        )
    compare_with_naive()


def compare_with_naive() -> None:
    from hwsim.quant.decompose import decompose_layer
    from tests.naive_decompose import decompose_rows

    weight = draw_weights([(16, 64, 3, 3)])[0]
    start = time.perf_counter()
    for filter_weight in weight.astype(np.float64):
        decompose_rows(filter_weight.reshape(-1, 3), threshold=4e-3, row_threshold=2e-2)
    naive = time.perf_counter() - start
    repeats = 20
    start = time.perf_counter()
    for _ in range(repeats):
        decompose_layer(weight)
    fast = (time.perf_counter() - start) / repeats
    print(f"16 slices of 192 rows: naive {naive * 1e3:.1f} ms, kernel {fast * 1e3:.2f} ms, ratio {naive / fast:.0f}")


if __name__ == "__main__":
    main()
