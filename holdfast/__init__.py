"""The client of Holdfast: for workers written in Python, and for its command line."""
