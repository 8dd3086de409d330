"""Help all other folders: errors, files, signals, progress bars, z.

These modules import no other folder.
"""
