"""Circle's sandbox on this machine: Developer-Controlled Wallets and Mint over HTTP, without Circle, without a chain.

What it answers is described in openapi.yaml. Everything is kept in one SQLite file, and time is its own: real, or
frozen and advanced by whoever tests. A second port lets a test, or a person, break things (see admin.py).
"""
