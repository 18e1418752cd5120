"""Recipes: TOML files that name stages, their settings and which feeds which."""
