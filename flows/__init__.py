"""The order of things: flows, the `pal` command, and the settings in pal.toml. No arithmetic, no SQL."""
