"""`make bench`: mlxserve's speed beside that of `mlx_lm.server` and of a bare loop over the same model."""
