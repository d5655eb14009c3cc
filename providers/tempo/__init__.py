"""Tempo: a rail of TIP-20 tokens over EVM JSON-RPC. `connect` builds the provider, the reader and the signer."""

from providers.tempo.heads import TempoHeads
from providers.tempo.rail import TempoConfig, TempoRail, connect, local_signer

__all__ = ["TempoConfig", "TempoHeads", "TempoRail", "connect", "local_signer"]
