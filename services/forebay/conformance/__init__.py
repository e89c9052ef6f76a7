"""What the contract promises of each service, as checks that ask any implementation over the wire."""
