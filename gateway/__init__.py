"""The payment gateway: one key and one prepaid balance for agents that buy servers with crypto."""
