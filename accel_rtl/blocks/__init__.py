"""Hardware blocks, one a file: a frozen specification with `compute()` (exact Python) and `create()` (a Component)."""
