"""The settings of each stage, and what else must be known of it before its code is imported."""
