"""What XLA makes of our programs for accelerators, compiled on a machine that has none."""
