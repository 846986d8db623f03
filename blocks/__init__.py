"""The broker blocks: configuration of a broker, and a live session to it."""
