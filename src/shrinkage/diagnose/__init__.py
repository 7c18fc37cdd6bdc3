"""What is wrong with the weight penalty of a training script, told from its text alone."""
