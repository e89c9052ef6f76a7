"""A server that speaks Triton's protocol with the timing of the instance model."""
