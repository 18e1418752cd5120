import os

# Before torch is imported: small tensors are slower on two threads than on one, and tests run in two processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
