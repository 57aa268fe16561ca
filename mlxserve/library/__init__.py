"""The models that are on this machine, and getting one: `mlxserve models`, `mlxserve pull`."""
