"""The consumer flows: one a provider, each a typed form in Prefect's UI over the same bridge."""
