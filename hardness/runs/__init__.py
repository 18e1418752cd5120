"""Run folders: their lifecycle, and what other stages read of them."""
