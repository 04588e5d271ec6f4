"""The compiled model of a whole accelerator with memories and a host around it."""
