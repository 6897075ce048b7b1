"""The stages of a run: each takes frozen values and gives frozen values."""
