"""The MCP door: the same transitions and refusals as REST, as tools for a model.

One synchronous view speaks both eras of the protocol: the stateless one (2026-07-28) and the
one with a handshake (2025-11-25 and before). No session is kept on either side, so any web
process may answer any request.
"""
