"""The rows that the 10 MB JSON work serves, the same for every server."""

from functools import cache

COUNT = 100_000


@cache
def rows() -> list[dict[str, object]]:
    """A table as a data tool has it: about 10 MB once it is JSON.

    Made on first use, so that it is not in the way where a server's memory is measured.
    """
    return [
        {
            "id": number,
            "name": f"specimen {number}",
            "length": number * 0.37,
            "width": number / 7,
            "group": ["setosa", "versicolor", "virginica"][number % 3],
        }
        for number in range(COUNT)
    ]
