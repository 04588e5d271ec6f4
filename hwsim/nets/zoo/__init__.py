"""The zoo: one file per family, each with a tuple ``NETWORKS`` of ``NetEntry``; found by ``hwsim.nets.registry``."""
