"""Values, units, errors and models that every part shares; knows no wire, no clock and no I/O."""
