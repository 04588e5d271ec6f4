"""Policies as files: what search and quantization tools write, read into a `hwsim.core.policy.Policy`, and written for them."""
