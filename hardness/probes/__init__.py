"""Scores for which a tracked network must be asked: each a function of a ``Subject`` -> (N,) numbers."""
