"""Where the nodes meet, with `--min-ranks`, to agree which of the planned ranks form the next group.

Rank 0's node is the host: the others come to it, and stay in touch, so that it knows who is there. It names the members
of each group, and each node starts an engine process as that group's rank. Without `--min-ranks` nodes never meet: the
group is always the whole.
"""
