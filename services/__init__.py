"""What both programs stand on: bytes, keys, stores, queues and state. Knows no tensor, no table, no protocol."""
