"""One file a figure: a table in, a matplotlib figure out."""
