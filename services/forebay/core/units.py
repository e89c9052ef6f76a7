"""Units of time: integers everywhere, microseconds in services and picoseconds in the instance model."""

US_PER_MS = 1_000
US_PER_S = 1_000_000
PS_PER_US = 1_000_000
PS_PER_S = 1_000_000_000_000
