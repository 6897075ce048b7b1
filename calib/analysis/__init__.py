"""What the numbers mean: task metrics, flips, tails, layer errors, speed."""
