"""Serve the page: server.py answers, requests.py checks requests, drawing.py draws."""
