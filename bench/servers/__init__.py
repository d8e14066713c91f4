"""The servers under measurement: one small program each, all with the same few routes.

Scripts run as ``python -m bench.servers.NAME PORT FOLDER``; ``asgi`` and ``wsgi`` are bare
applications that the command lines of uvicorn, waitress and granian load.
"""
