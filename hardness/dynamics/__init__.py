"""Training dynamics: recording, storing and scoring a network's output for every example in every epoch.

Independent of model and data set: whatever provides ids, logits and labels can be recorded.
"""
