"""Marks what takes too long for every run of the tests."""

import os

import pytest

SLOW = pytest.mark.skipif("SOLON_TEST_FAULTS" not in os.environ, reason="takes half a minute: make faults")
