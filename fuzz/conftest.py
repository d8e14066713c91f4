"""Loads the profile that says how hard to try."""

from __future__ import annotations

import fuzz.profile  # noqa: F401 - loads the settings
