"""RTL of the accelerators, in Amaranth."""
