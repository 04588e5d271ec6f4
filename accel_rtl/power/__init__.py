"""Energy of blocks from their standard cells: a Liberty library, the mapped netlist, its activity under stimuli, its price."""
