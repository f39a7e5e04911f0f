"""Secrets of a board: values that its commands get as variables and that nobody reads back."""
