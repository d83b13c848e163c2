"""What of a site's configuration is nobody else's business: passwords, tokens, keys, addresses, names. Pure.

In doubt it is private: what is left out is said, and can be written by hand.
"""

from collections.abc import Iterable
import re

_SECRET_NAME = re.compile(r"pass|secret|token|cred|key|auth", re.IGNORECASE)
# "export TOKEN=x", "JobCompPass=x", "ENROOT_DATA_PATH /data".
_SETTING = re.compile(r"\s*(?:export\s+)?([\w.-]+)\s*(?:[=:\s]|$)")
# In turn TOKEN=x, `--token x`, and the form of ~/.netrc, which enroot's credentials have: `login NAME password x`.
# Anywhere: a name of that kind, or an option, that is given a value, and not that of another variable.
_KIND = (
    r"(?:pass(?:w(?:or)?d|phrase|code)?|secret|token|credentials?|auth(?:orization)?|(?:api|access|private)[_-]?key)"
)
_A_VALUE = r"[\"']?[^\s$\"'=(){}<>|;&\[\]-]"
_GIVEN = tuple(
    re.compile(text + _A_VALUE, re.IGNORECASE)
    for text in (rf"{_KIND}\w*[\"']?\s*[=:]\s*", rf"(?<![\w-])--?[\w-]*{_KIND}\s+", rf"login\s+\S+\s+{_KIND}\s+")
)
_SECRET_VALUE = (
    # A key in PEM's form; a password in an address; tokens of Hugging Face, GitHub, GitLab, NVIDIA, Slack, AWS and
    # others, by how they begin ("eyJ": JSON in base64); a header of HTTP.
    re.compile(r"-----BEGIN "),
    re.compile(r"://[^/\s:@]+:[^/\s@]+@"),
    re.compile(r"\b(?:hf_|gh[opsru]_|github_pat_|glpat-|nvapi-|sk-|xox[a-z]-|AKIA|ASIA|eyJ)[\w-]{8,}"),
    re.compile(r"\b(?:bearer|basic)\s+[\w+/=.-]{8,}", re.IGNORECASE),
    # Random letters and digits; a path, an option or a name of words has other signs in between.
    re.compile(r"(?<![\w/.$-])(?=[A-Za-z+]*\d)(?=[\d+]*[A-Za-z])[A-Za-z0-9+]{24,}={0,2}(?![\w/.=])"),
)
ADDRESSES = (
    re.compile(r"(?<!\d)(?<!\d\.)(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)"),
    re.compile(r"(?<![0-9a-f:])(?:[0-9a-f]{1,4}:){4,7}:?[0-9a-f]{1,4}(?![\w:])", re.IGNORECASE),
    # With the :: that stands for zeros: 2000::/3, fc00::/7, fe80::/10, ff00::/8.
    re.compile(
        r"(?<![0-9a-f:])(?=[0-9a-f:]*::)(?:[23][0-9a-f]|f[cdef])[0-9a-f]{2}(?::[0-9a-f]{0,4}){2,7}(?![\w:])",
        re.IGNORECASE,
    ),
    re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.\w[\w-]*)+"),
)
"""Of networks (not loopback), of network cards, of mail: each matches a whole one."""
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://(?!localhost\b|127\.|/)[\w\[]", re.IGNORECASE)
SECRET = "it looks like a password, a token or a key"  # noqa: S105 - it is a reason
ADDRESS = "it has an address, which a cell does not reach and which is nobody else's business"
NAME = "it has a name of the site's: of a host, its domain, the user or the cluster"


def of_line(text: str, names: Iterable[str]) -> str:
    """Return why a line of settings is private; empty if it is not."""
    name = _SETTING.match(text)
    if name and _SECRET_NAME.search(name[1]):
        return SECRET
    return _of(text, names) or (ADDRESS if _URL.search(text) else "")


def of_script(text: str, names: Iterable[str]) -> str:
    """Return why a script is private; empty if it is not. Of its comments, an address on the web is not."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return _of(text, names) or (ADDRESS if _URL.search(code) else "")


def _of(text: str, names: Iterable[str]) -> str:
    if any(pattern.search(text) for pattern in (*_GIVEN, *_SECRET_VALUE)):
        return SECRET
    if any(pattern.search(text) for pattern in ADDRESSES):
        return ADDRESS
    # A dot may follow: a host's name also begins its full one.
    if any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) for name in names):
        return NAME
    return ""
