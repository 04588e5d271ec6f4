"""The generated hardware of `fixed8`."""
