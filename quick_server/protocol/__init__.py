"""HTTP/1.1 without input or output: bytes to events, responses to bytes.

Nothing below this folder touches a socket, a selector, a thread or a clock, and h11 is imported
nowhere else.
"""
