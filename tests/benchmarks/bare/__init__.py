"""Bare clients: each driver used as its own documentation uses it, and nothing of ours."""
