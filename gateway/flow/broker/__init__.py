"""Serving vendors that know us by one account which all agents share."""
