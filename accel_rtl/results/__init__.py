"""Recorded results of synthesis, place and route: one JSON file a design and target (`accel_rtl.fpga_results`)."""
