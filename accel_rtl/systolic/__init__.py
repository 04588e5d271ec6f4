"""RTL of the systolic array: see `hwsim.archs.systolic`."""
