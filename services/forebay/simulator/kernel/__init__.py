"""The instances: a plain reference and a fast implementation behind one port."""
