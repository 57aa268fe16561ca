"""Ranks that go on when the launcher ends: `mlxserve launch --detach`, `--keep`, and their end by `--stop`.

On each host a `mlxserve detached` starts the rank and follows its log, until all is well or for good; the launcher only
talks to those. What a rank needs lies in a folder of its own there: see `rank`.
"""
