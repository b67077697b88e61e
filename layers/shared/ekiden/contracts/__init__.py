"""The wire: versioned models of the pipeline spec, events, messages and the HTTP API.

Shared by the Lambdas, the engine, the embedded cloud and the CLI. Nothing here does I/O.
"""
