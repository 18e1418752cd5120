"""track, split, retrain, memorize, report: a configuration in, a run folder out."""
