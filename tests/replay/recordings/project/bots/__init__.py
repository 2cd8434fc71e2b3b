"""Bots to begin with: small programs that a `bot` step can connect a caller to."""
