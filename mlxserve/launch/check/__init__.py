"""`mlxserve check`: a look at each host before anything is started, then the group's self-test."""
