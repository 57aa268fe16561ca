"""Rank 0 as the place where a model comes from: it gives the other ranks what they lack of it."""
