"""The machinery under main.py, model.py, ops.py, utils.py and download.py."""
