"""The sandbox: a local Base, vendors as real HTTP servers, and the demo. Imports nothing of the product it checks."""
