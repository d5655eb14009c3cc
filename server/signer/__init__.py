"""A process that signs and does nothing else: the one place where keys are, behind mutual TLS and limits of its own.

    server signer

It implements `providers.base.Signer` for workers elsewhere (`remote.py` is their side) and trusts none of them. What it
signs it builds itself, out of movements; each has to be a planned settlement in the database, with these amounts
between these holders, whose addresses it derives itself; it signs no item again while an earlier signature of it can
still land; and it moves no more in a day than it was told (money rules 1 and 27). A worker that was taken over can
therefore settle what is to be settled, and nothing else; a database that was taken over can plan what never was, within
the day's limits.
"""
