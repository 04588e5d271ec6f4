"""Benchmarks: plain scripts that print a table and hold ratios measured within one run."""
