"""What can be said of a text without a model: whether it is sound, refuses, or repeats others."""
