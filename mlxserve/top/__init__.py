"""`mlxserve top`: the cluster, as the page shows it, in the terminal."""
