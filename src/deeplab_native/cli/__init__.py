"""The command line `deeplab-native`: one module per command, put together in `main`."""
