"""Whatever a client, an upstream, a file or the machine does: one test and more for each case.

Tests are named after their case: `test_01_…` shows the first. Each runs against a real server in a
process of its own; those that need nothing but what `tests.wire.origins` serves run against any of its
servers:

    pytest tests/faults --origin nginx

`make faults` (`tests.faults.measure`) runs them against all, keeps what it saw in `peers.json`, and
writes the table of docs/reliability.md (`tests.faults.table`). A test's docstring says how the server
behaves: that is the table's line. It tells what it saw with `observed("400, closes")`, before it
asserts anything, so that the table can say what a peer did instead.
"""
