"""Use cases that write. They know the domain and the storage, and neither gRPC nor protobuf."""
