"""The simulator: the engines and policies of the live services over traces, in virtual time."""
