"""mlxserve as a service of the machine: started with it, and started again when it ends."""
