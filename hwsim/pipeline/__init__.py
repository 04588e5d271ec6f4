"""From a network, an accelerator and a policy to a Report: an explicit sequence of a few calls."""

from hwsim.pipeline.simulate import simulate, simulate_traced

__all__ = ["simulate", "simulate_traced"]
