"""Units. Time is integers everywhere: microseconds in services, picoseconds in the instance model."""

US_PER_MS = 1_000
US_PER_S = 1_000_000
PS_PER_US = 1_000_000
PS_PER_S = 1_000_000_000_000
BYTES_PER_GB = 1_000_000_000
S_PER_HOUR = 3_600.0
