"""The data plane: speaks the clients' protocols, asks the scheduler where to go, and moves tokens."""
