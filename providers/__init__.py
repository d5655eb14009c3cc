"""The rails: one package per provider, all behind the protocols of `providers.base`."""
