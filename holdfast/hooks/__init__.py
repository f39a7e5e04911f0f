"""What an agent's command line calls by itself: heartbeats, news for the agent, a clean end.

Each command line runs ``holdfast hook NAME`` on its own events and reads the answer from stdout.
Whatever goes wrong here costs the agent a few seconds at most and never its work.
"""
