"""One model over N ranks: which rank runs which layers, what moves between them, how they stay in step."""
