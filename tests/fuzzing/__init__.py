"""Bad input: calls of every rpc, made up from its descriptor and a seed, and what may never come of them.

`make fuzz` plays many (SEED=n CALLS=m); some are part of the tests. A call that ends badly is printed whole: with the
same seed the same values are chosen, but ids are of that run's people, and answers come in an order of their
own.
"""
