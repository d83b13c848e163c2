"""Passwords for registries, as `docker login` keeps them: in its configuration, or with a helper that it names."""

from dataclasses import dataclass, field

from ci import web
from ci.engine.refusals import asking


@dataclass(frozen=True)
class Password:
    """A user's password, which no representation shows."""

    user: str
    text: str = field(repr=False)

    @property
    def basic(self) -> web.Basic:
        """What puts it into a request: in UTF-8, as Docker does; requests would take a `str` for Latin-1."""
        return web.Basic(self.user.encode(), self.text.encode())


def password_of(registry: str) -> Password | None:
    """Return the password for a registry's host; None if `docker login HOST` was not called.

    :raises RefusedError: if a helper does not tell what it keeps.
    """
    from docker import auth  # noqa: PLC0415 - takes long to load

    with asking(f"the login for {registry} that `docker login` keeps"):
        kept = auth.load_config().resolve_authconfig(registry) or {}
    # docker-py writes the keys of an entry of the file in small letters, those of a helper's in capitals. A token
    # that stands in place of a password (IdentityToken) is for registries of one vendor each.
    found = {key.lower(): value for key, value in kept.items()}
    return Password(found["username"], found["password"]) if found.get("username") and found.get("password") else None
