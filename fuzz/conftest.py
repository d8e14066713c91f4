"""Loads the profile that says how hard to try."""

from __future__ import annotations

from fuzz import profile as profile  # settings are loaded by importing it
