"""What benchmarks/tasks.py is made of: real outputs, oracles, and damage to plant."""
