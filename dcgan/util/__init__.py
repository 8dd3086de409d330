"""Help all other folders: errors, files, signals, z. Imports no other folder."""
