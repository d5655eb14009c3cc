"""The wallet's processes: the gRPC edge, the use cases, the ledger's one door, the workers, and their composition."""
