"""RunSpec -> RunRecord: the supervisor, the process tree, the logs, what goes in and what comes out."""
