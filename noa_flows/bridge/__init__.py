"""The bridge: message → run.

A message passes `intake` (what does it say, may it?), `dispatcher` (its run is made, exactly one),
and is settled by `bridge`, which also holds back while Prefect is away or has enough to do.
"""
