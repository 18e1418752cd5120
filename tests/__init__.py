import os

# Before torch is imported: tests run in two processes, and small tensors are slower on two threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# pytest-xdist sets it, and tables would be as narrow.
os.environ.pop("COLUMNS", None)
