"""A long mixed load on real servers, with invariants that are checked all the while.

`python -m soak` starts two servers (plain and TLS) and an upstream in processes of their own, lets many
kinds of clients at them, and says in the end what went wrong. `make soak MINUTES=10` is the same.
"""
