"""Other tools that `hardness export` writes for."""
