"""Tokens in, tokens out: the engine process of rank 0 and the client of it that the node holds."""
