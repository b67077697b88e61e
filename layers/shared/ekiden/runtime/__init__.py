"""The Lambda shell: settings, observability, the queue consumer, the HTTP front, and what is wired to what."""
