"""Energy, area and technology tables, and the pricing of action counts."""

from energy_models.area import AreaTerm, PricedArea, price_area
from energy_models.dram import DramEnergy, dram_energy, flat_dram, list_dram_parts, on_chip_memory
from energy_models.ops import RULES, PricedOp, price_op
from energy_models.pricing import BufferSpec, PricedActions, price_actions
from energy_models.scaling import scale_area, scale_energy
from energy_models.sram import SramCost, sram_cost
from energy_models.table import EnergyTable, Entry, list_tables, load_table, rescale_table

__all__ = [
    "RULES",
    "AreaTerm",
    "BufferSpec",
    "DramEnergy",
    "EnergyTable",
    "Entry",
    "PricedActions",
    "PricedArea",
    "PricedOp",
    "SramCost",
    "dram_energy",
    "flat_dram",
    "list_dram_parts",
    "list_tables",
    "load_table",
    "on_chip_memory",
    "price_actions",
    "price_area",
    "price_op",
    "rescale_table",
    "scale_area",
    "scale_energy",
    "sram_cost",
]
