"""Solon: train a language model to follow a written constitution."""
