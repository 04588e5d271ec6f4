"""Equations published by others, kept apart from the model: oracles for tests and for reproduction."""
