"""What a config can say, where no package of its own says it."""
