"""The same plans under cocotb: the generated Verilog on Verilator, memories and host in Python."""
