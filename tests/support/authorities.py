"""Authorities and tokens that live as long as a run."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
import secrets
import ssl

import jwt
import trustme

_LIFE = timedelta(days=1)


def new_authority() -> trustme.CA:
    """Make a private certificate authority; all of them have the same name, and a key of their own."""
    return trustme.CA(organization_name="pyxis-matrix", organization_unit_name="test authority")


@dataclass(frozen=True, kw_only=True)
class TokenSigner:
    """Signs what a registry with token authentication lets in.

    https://distribution.github.io/distribution/spec/auth/jwt/
    """

    issuer: str
    service: str
    authority: trustme.CA = field(default_factory=new_authority)

    def token(self, repository: str, *actions: str) -> str:
        """Return a token for one repository; the actions are ``pull`` and ``push``."""
        now = datetime.now(UTC)
        claims = {
            "iss": self.issuer,
            "sub": "",
            "aud": self.service,
            "iat": now,
            "nbf": now - _LIFE,
            "exp": now + _LIFE,
            "jti": secrets.token_hex(8),
            "access": [{"type": "repository", "name": repository, "actions": list(actions)}],
        }
        certificate = ssl.PEM_cert_to_DER_cert(self.authority.cert_pem.bytes().decode())
        chain = [base64.b64encode(certificate).decode()]
        key = self.authority.private_key_pem.bytes()
        return jwt.encode(claims, key, algorithm="ES256", headers={"x5c": chain})
