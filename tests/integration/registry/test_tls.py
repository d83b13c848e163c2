"""https with a private authority, as most sites' own registries have it."""

from dataclasses import replace

from cryptography import x509
import pytest

from tests.integration.registry.support import (
    HTTPS_ONLY,
    NOT_IMPORTED,
    Marked,
    TlsRegistry,
    imported,
    refused,
    runs,
    srun_unchecked,
    user_files,
)
from tests.support.authorities import new_authority
from tests.support.behaviours import Ask
from tests.support.cluster import Shell
from tests.support.known_failures import Control

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


def _subject(registry: TlsRegistry) -> x509.Name:
    return x509.load_pem_x509_certificate(registry.trust.encode()).subject


@pytest.mark.usefixtures("https_on_request")
def test_certificate_of_a_known_authority(cluster_shell: Shell, tls_registry: TlsRegistry, marked: Marked) -> None:
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    folder = user_files(cluster_shell, {"ca.pem": tls_registry.trust})
    trusting = {**HTTPS_ONLY, "SSL_CERT_FILE": f"{folder}/ca.pem"}
    runs(cluster_shell, pushed.reference, marked.marker, trusting)


@pytest.mark.usefixtures("https_on_request")
def test_certificate_of_an_unknown_authority(cluster_shell: Shell, tls_registry: TlsRegistry, marked: Marked) -> None:
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    refused(cluster_shell, pushed.reference, NOT_IMPORTED, HTTPS_ONLY)
    # Nothing else is missing: with the authority's certificate it runs.
    folder = user_files(cluster_shell, {"ca.pem": tls_registry.trust})
    runs(cluster_shell, pushed.reference, marked.marker, {**HTTPS_ONLY, "SSL_CERT_FILE": f"{folder}/ca.pem"})


@pytest.mark.usefixtures("https_on_request")
def test_certificate_of_another_authority_of_the_same_name(
    cluster_shell: Shell, tls_registry: TlsRegistry, marked: Marked
) -> None:
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    other = replace(tls_registry, authority=new_authority())
    assert _subject(other) == _subject(tls_registry)
    folder = user_files(cluster_shell, {"other.pem": other.trust, "ca.pem": tls_registry.trust})
    trusting = {**HTTPS_ONLY, "SSL_CERT_FILE": f"{folder}/other.pem"}
    refused(cluster_shell, pushed.reference, NOT_IMPORTED, trusting)
    runs(cluster_shell, pushed.reference, marked.marker, {**HTTPS_ONLY, "SSL_CERT_FILE": f"{folder}/ca.pem"})


@pytest.mark.usefixtures("https_on_request")
def test_certificate_of_another_host(cluster_shell: Shell, tls_registry: TlsRegistry, marked: Marked) -> None:
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    folder = user_files(cluster_shell, {"ca.pem": tls_registry.trust})
    trusting = {**HTTPS_ONLY, "SSL_CERT_FILE": f"{folder}/ca.pem"}
    own = tls_registry.registry
    own.container.reload()
    ((_, network),) = own.container.attrs["NetworkSettings"]["Networks"].items()
    by_address = pushed.reference.replace(own.name, network["IPAddress"], 1)
    refused(cluster_shell, by_address, NOT_IMPORTED, trusting)
    runs(cluster_shell, pushed.reference, marked.marker, trusting)


@pytest.mark.behaviour("https-while-http-is-allowed")
@pytest.mark.usefixtures("https_on_request")
def test_https_while_plain_http_is_allowed(
    cluster_shell: Shell, tls_registry: TlsRegistry, marked: Marked, control: Control, behaviour: Ask
) -> None:
    # "Allowed" ought not to mean "preferred" (NVIDIA/enroot#222).
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    folder = user_files(cluster_shell, {"ca.pem": tls_registry.trust})
    trusting = {"SSL_CERT_FILE": f"{folder}/ca.pem"}
    with control("where plain http is not allowed it runs"):
        runs(cluster_shell, pushed.reference, marked.marker, {**trusting, **HTTPS_ONLY})
    done = srun_unchecked(cluster_shell, pushed.reference, trusting)
    spoken_to_in_http = "error code: 400 Bad Request" in done.stderr
    if not imported(done) and spoken_to_in_http:
        behaviour("https-while-http-is-allowed").saw("refused", done)
        pytest.fail(str(done))
    assert (done.status, done.stdout) == (0, f"{marked.marker}\n"), str(done)
    behaviour("https-while-http-is-allowed").saw("imported", done)
