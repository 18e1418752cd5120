"""The stages: a function of their settings each."""
