"""The benchmark: this server and its peers, measured side by side in one run.

``python bench/run.py`` starts it; ``RESULTS.md`` and ``results.svg`` are what a full run leaves.
Read ``works.py`` for what is measured, ``peers.py`` for against whom, ``model.py`` for the words.
Linux only: the readings come from ``/proc``.
"""
