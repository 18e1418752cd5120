"""Training: one step, one epoch, the order of examples, measuring, checkpoints."""
