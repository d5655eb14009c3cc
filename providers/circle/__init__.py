"""Circle: stablecoins between Developer-Controlled Wallets, and the operator's bank through Circle Mint.

Both halves are custodians; `providers/custodian.py` says how they are used. `connect` builds them from a
`CircleConfig`.
"""
