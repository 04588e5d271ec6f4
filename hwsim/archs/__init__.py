"""Architectures: one folder each, found by discovery."""
