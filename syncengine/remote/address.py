"""Where the backend is, whom to trust there, and which proxy leads to it: looked at before anything is sent."""

import ipaddress
import ssl
import urllib.request

import httpcore
import httpx

from syncengine.errors import BackendAddressRefused, TlsTooWeak
from syncengine.logs import register_secret


def checked_address(url: str, *, allow_plain_http: bool) -> httpx.URL:
    """The address as a value. Raises BackendAddressRefused for one that would leak or cannot work."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise _refused("it is no URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _refused("it does not begin with https:// and a name")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise _refused("it holds a user, a query or a fragment, which may be secret")
    if parsed.scheme == "http" and not allow_plain_http and not is_this_machine(parsed.host):
        raise _refused("plain http to another machine would show the token to the network")
    return parsed


def is_this_machine(host: str) -> bool:
    """Whether nothing sent there leaves the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_trust(tls: ssl.SSLContext | None) -> ssl.SSLContext:
    """The host's own trust, or the public authorities without one. Raises TlsTooWeak."""
    if tls is None:
        tls = httpx.create_ssl_context(verify=True, trust_env=False)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
    # MINIMUM_SUPPORTED is -2 and stands for whatever OpenSSL was built with.
    if tls.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise _too_weak("it takes versions before TLS 1.2, which RFC 8996 has given up")
    if tls.verify_mode is not ssl.CERT_REQUIRED or not tls.check_hostname:
        raise _too_weak("it takes any certificate, so anybody could stand in the backend's place")
    return tls


def proxy_for(address: httpx.URL) -> httpcore.Proxy | None:
    """The proxy that the environment (or the system) names for this address. Raises BackendAddressRefused."""
    if is_this_machine(address.host) or urllib.request.proxy_bypass(address.host):
        return None
    named = urllib.request.getproxies()
    text = named.get(address.scheme) or named.get("all")
    if not text:
        return None
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as error:
        raise _refused("the environment's proxy is no URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise _refused("the environment's proxy is none for HTTP")
    if url.password:
        register_secret(url.password)
    return httpcore.Proxy(
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/"),
        auth=(url.username, url.password) if url.username else None,
    )


def _refused(why: str) -> BackendAddressRefused:
    return BackendAddressRefused(
        "The backend's address cannot be used.", why=why, fix="Give an address like https://cloud.example."
    )


def _too_weak(why: str) -> TlsTooWeak:
    return TlsTooWeak(
        "The TLS context for the backend does not protect.",
        why=why,
        fix="Begin with ssl.create_default_context(), and add your own authority to it. Nothing was sent.",
    )
