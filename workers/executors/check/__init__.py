"""A command whose outcome is evidence: what ``run`` does, said to be a check."""
