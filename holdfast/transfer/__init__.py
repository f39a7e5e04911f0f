"""Plans read from other trackers, written through the API; and boards written to files."""
