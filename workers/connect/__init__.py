"""How an agent is connected: the exact lines for each command line, and what came of it."""
