"""The world around the engines in virtual time: what the live shells do with gRPC, done with a heap of events."""
