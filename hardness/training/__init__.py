"""Training: steps, epochs, measurements, checkpoints."""
