"""The web page on which to explore a model.

server.py answers requests, requests.py checks them, drawing.py draws.
"""
