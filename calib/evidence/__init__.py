"""What a run found, signed, so that somebody else can check it a year later."""
