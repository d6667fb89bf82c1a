"""What Solon uses of libraries beyond what they promise to keep, one module a library.

Each name stands there with the version that it was read in and what for, behind a plain name of ours, and
nowhere else in the package. docs/libraries.md lists them with the tests that would miss them.
"""
