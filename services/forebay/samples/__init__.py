"""Small data that ships: prompts of several applications and a trace of arrivals, both made by `generate.py`."""
