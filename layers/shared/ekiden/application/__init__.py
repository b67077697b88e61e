"""Use cases. Everything from outside comes in as an argument; nothing here knows AWS."""
