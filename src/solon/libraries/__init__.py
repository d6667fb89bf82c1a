"""What we use of libraries beyond what they promise to keep, one module a library (see docs/libraries.md)."""
