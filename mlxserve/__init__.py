"""mlxserve: one MLX language model, split by layers over several Macs, behind OpenAI's API."""

__version__ = "0.1.0"
