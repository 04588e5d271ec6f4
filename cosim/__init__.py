"""Co-simulation of the generated RTL with the cycle engine."""
