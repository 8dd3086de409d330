"""The web page on which to explore a model: its server, its requests, its images."""
