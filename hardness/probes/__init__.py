"""Scores that need a tracked network: each is a function of a ``Subject`` -> (N,) numbers."""
