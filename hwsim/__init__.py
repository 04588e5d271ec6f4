"""hwsim: what a quantization or architecture choice costs on real accelerator designs."""
