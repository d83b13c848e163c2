"""https with a private authority, as most sites' own registries have it."""

import pytest

from tests.integration.container_support import Shell
from tests.integration.registry import tls
from tests.integration.registry.support import HTTPS_ONLY, Marked, TlsRegistry, refused, runs, user_files

pytestmark = [pytest.mark.container_packaging, pytest.mark.slow_integration_test]


@pytest.mark.usefixtures("https_on_request")
def test_certificate_of_a_known_authority(
    slurm_pyxis_cluster: Shell, tls_registry: TlsRegistry, marked: Marked
) -> None:
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    folder = user_files(slurm_pyxis_cluster, {"ca.pem": tls_registry.authority.pem.decode()})
    trusting = {**HTTPS_ONLY, "SSL_CERT_FILE": f"{folder}/ca.pem"}
    runs(slurm_pyxis_cluster, pushed.reference, marked.marker, trusting)


@pytest.mark.usefixtures("https_on_request")
def test_certificate_of_an_unknown_authority(
    slurm_pyxis_cluster: Shell, tls_registry: TlsRegistry, marked: Marked
) -> None:
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    assert "certificate" in refused(slurm_pyxis_cluster, pushed.reference, HTTPS_ONLY)


@pytest.mark.usefixtures("https_on_request")
def test_certificate_of_another_authority_of_the_same_name(
    slurm_pyxis_cluster: Shell, tls_registry: TlsRegistry, marked: Marked
) -> None:
    name = tls_registry.authority.certificate.subject.rfc4514_string().removeprefix("CN=")
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    folder = user_files(slurm_pyxis_cluster, {"ca.pem": tls.new_authority(name).pem.decode()})
    trusting = {**HTTPS_ONLY, "SSL_CERT_FILE": f"{folder}/ca.pem"}
    assert "certificate" in refused(slurm_pyxis_cluster, pushed.reference, trusting)


@pytest.mark.usefixtures("https_on_request")
def test_certificate_of_another_host(slurm_pyxis_cluster: Shell, tls_registry: TlsRegistry, marked: Marked) -> None:
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    folder = user_files(slurm_pyxis_cluster, {"ca.pem": tls_registry.authority.pem.decode()})
    trusting = {**HTTPS_ONLY, "SSL_CERT_FILE": f"{folder}/ca.pem"}
    own = tls_registry.registry
    own.container.reload()
    ((_, network),) = own.container.attrs["NetworkSettings"]["Networks"].items()
    by_address = pushed.reference.replace(own.name, network["IPAddress"], 1)
    assert "certificate" in refused(slurm_pyxis_cluster, by_address, trusting)


def test_https_while_plain_http_is_allowed(
    slurm_pyxis_cluster: Shell, tls_registry: TlsRegistry, marked: Marked
) -> None:
    # "Allowed" ought not to mean "preferred" (NVIDIA/enroot#222).
    pushed = tls_registry.registry.push("team/img", marked.marker, marked.image)
    folder = user_files(slurm_pyxis_cluster, {"ca.pem": tls_registry.authority.pem.decode()})
    runs(slurm_pyxis_cluster, pushed.reference, marked.marker, {"SSL_CERT_FILE": f"{folder}/ca.pem"})
