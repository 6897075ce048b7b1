"""Keys to sign and to verify with: ed25519, in PEM files or behind a signer's URI."""

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from calib.errors import ConfigError, StoreError

_FIX = "Make a pair with: calib keygen KEY"


def generate(path: Path) -> Path:
    """Write a private key, for its owner's eyes alone, and `path` + `.pub` beside it.

    Raises:
        StoreError: if one of the files is there already: a lost key cannot be had again.
    """
    public = Path(f"{path}.pub")
    for file in (path, public):
        if file.exists():
            raise StoreError(str(file), "is there already", fix="Give another name.")
    key = Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as opened:
            opened.write(private_pem)
        public.write_bytes(public_pem)
    except OSError as error:
        raise StoreError(str(path), f"cannot be written: {error}") from error
    return public


def open_signer(key: str) -> Signer:
    """A signer for a private key's PEM file, or for a URI that securesystemslib knows.

    Args:
        key: a path, or e.g. `gcpkms:…`, `hsm:…`, with the public key at the path in `…?public=`.

    Raises:
        ConfigError: if it cannot be used.
    """
    scheme, _, rest = key.partition(":")
    try:
        if rest and scheme not in ("file", "file2") and not Path(key).exists():
            uri, _, public = key.partition("?public=")
            return Signer.from_priv_key_uri(uri, load_public(Path(public)))
        path = Path(rest if rest and scheme in ("file", "file2") else key)
        private = serialization.load_pem_private_key(path.read_bytes(), None)
        return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
    except ConfigError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"--key {key}", "there is no such key", fix=_FIX) from error
    except Exception as error:  # cryptography and the signers raise whatever they stumble over
        raise ConfigError(
            f"--key {key}", f"is no private key that can sign: {error}", fix=_FIX
        ) from error


def load_public(path: Path) -> Key:
    """A public key's PEM file.

    Raises:
        ConfigError: if it is none.
    """
    try:
        found = serialization.load_pem_public_key(path.read_bytes())
        return SSlibKey.from_crypto(found)
    except FileNotFoundError as error:
        raise ConfigError(f"--key {path}", "there is no such key", fix=_FIX) from error
    except Exception as error:  # cryptography raises several kinds
        raise ConfigError(f"--key {path}", f"is no public key: {error}", fix=_FIX) from error
