"""`make bench`: mlxserve's speed beside that of `mlx_lm.server` and of a bare loop, and what issue 5 asks of it."""
