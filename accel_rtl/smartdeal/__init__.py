"""RTL of the SmartDeal engine: see `hwsim.archs.smartdeal`."""
