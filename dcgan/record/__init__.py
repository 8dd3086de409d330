"""Record a training for people to read; a run can be resumed without these files."""
