"""One file per question: curves or scores -> a dataclass of estimates, and the sentences about them."""
