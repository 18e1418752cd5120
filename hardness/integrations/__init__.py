"""A Recorder in other libraries' training loops."""
