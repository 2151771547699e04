"""The ops, one module each: schema, implementations, fake and backward (see CONTRIBUTING.md)."""
