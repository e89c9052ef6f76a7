"""The integer program that says how many instances each pool should have; several policies plan by it."""
