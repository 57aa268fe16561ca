"""Starting the ranks: the hosts file, the processes on all hosts, the check."""
