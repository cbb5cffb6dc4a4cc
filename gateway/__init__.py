"""The payment gateway: one key and one prepaid balance for agents that buy servers with crypto."""

__version__ = "0.1.0"
"""As pyproject.toml has it, and the command line and the OpenAPI document tell it."""
