"""A worker on a host that has an address, a token and git, and nothing else of the server.

``python -m workers.remote`` is what ``holdfast worker`` starts. Nothing here imports Django.
"""
