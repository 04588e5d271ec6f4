"""The cycle engine: it times a Program, and the functional model executes the network."""
