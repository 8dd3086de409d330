"""Serve a web page on which to explore a model.

server.py answers HTTP requests, requests.py checks them, drawing.py draws.
"""
