"""What `gateway.config` is made of: lines of a TOML file, tables into dataclasses, and the checks across sections."""
