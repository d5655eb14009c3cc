"""Certificates in the places that the manifests mount them to."""

from __future__ import annotations

from pathlib import Path

import trustme


def write_certificates(folder: Path, *names: str) -> None:
    """`tls.crt`, `tls.key` and `ca.crt`, as a secret of type kubernetes.io/tls has them."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    certificate = authority.issue_cert(*names)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "tls.crt", append=True)
