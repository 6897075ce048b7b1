"""The commands of the command line, and no logic: each file has those of one subject."""
