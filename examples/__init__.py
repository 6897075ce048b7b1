"""Real models and data, built from packages without PyTorch."""
