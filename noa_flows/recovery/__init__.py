"""Recovery: what becomes of runs whose process, worker or machine died under them."""
