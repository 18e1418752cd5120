"""One file per figure: a table in, a matplotlib figure out."""
