"""What a network made of every example in every epoch: recording, storing, scoring.

Knows no model and no data set; anything that hands over ids, logits and labels can be recorded.
"""
