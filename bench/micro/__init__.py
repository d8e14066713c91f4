"""What the steps of a request cost, each by itself: `make bench-micro` prints microseconds.

Beside the benchmark proper, which has servers, sockets and peers: here a step is called again and
again in this process. Good for comparing two states of a file; what a request costs as a whole is for
`bench/run.py` to say.
"""
