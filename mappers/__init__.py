"""Mappers: from a layer and an accelerator to the best tiling and loop order."""
