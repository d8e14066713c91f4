"""Stands before orjson, so that the tests run as without the `fast` extra, whether or not it is there.

Those who want the real one leave this folder out of their path.
"""

raise ImportError("the tests run without orjson")
