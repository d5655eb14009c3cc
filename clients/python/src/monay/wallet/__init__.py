"""The Monay consumer wallet, for Python. The generated messages and stubs are in `monay.wallet.v1`."""
