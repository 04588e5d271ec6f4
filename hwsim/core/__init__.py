"""Types shared by every part: values, their invariants, their errors."""
