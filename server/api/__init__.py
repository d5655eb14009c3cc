"""The gRPC edge: the contract on one side, the domain's types on the other, and nothing decided in between.

Adding a noun takes one file and one line. The file holds a class whose methods are named like the rpcs, in snake case:

    class Balances:
        def __init__(self, *, engine: Engine) -> None: ...

        async def get_balance(self, request: GetBalanceRequest, call: Call) -> GetBalanceResponse: ...

        async def watch_balances(self, request: WatchBalancesRequest, call: Call) -> AsyncIterator[...]: ...

The line adds an instance to the list of nouns in `server/api_process.py`. A method that names no rpc, or that two nouns
share, stops the start; an rpc that no noun has answers NOT_IMPLEMENTED. What a method gets is already let in: `edge.py`
has checked token, scope, fields and wallet, so that `call.consumer_id` is the wallet this call may act on. What it
cannot do it raises, as a class of `domain.errors`.
"""
