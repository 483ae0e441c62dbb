"""Who is let in by which name, and that every link begins where its client can follow it."""

from contextlib import asynccontextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import ValidationError

from pipeline.errors import InvalidOption
from serve_app.http.app import create_app
from serve_app.http.dependencies import Services
from serve_app.http.front_door import FrontDoor
from serve_app.http.reach import Reach
from serve_app.settings import AppArgs
from tests.serve_app.http.conftest import running
from tests.serve_app.http.test_contract import API, upload

REACH = Reach(
    "https://splats.example/base/",
    allowed_hosts=("studio.example", "*.lab.example"),
    trusted_proxies=("10.9.0.0/16",),
)
PROXY = ("10.9.0.7", 4711)


@asynccontextmanager
async def door(reach: Reach = REACH, client=("198.51.100.7", 1234)):
    """A client of the application, at an address, with whatever headers it likes."""

    async def readiness():
        return {}

    store = SimpleNamespace(blobs=None)
    app = create_app(Services(store, None, readiness, None, reach=reach))

    transport = httpx.ASGITransport(app=app, client=client, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        yield http


@pytest.mark.parametrize(
    ("host", "enters"),
    [
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("10.1.2.3:8000", True),  # a probe of a cluster; no page has such a name
        ("localhost:8000", True),
        ("LOCALHOST.", True),
        ("glimpse.localhost", True),
        ("splats.example", True),
        ("Splats.Example:443", True),
        ("studio.example:8000", True),
        ("gpu1.lab.example", True),
        ("lab.example", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evillocalhost", False),
        ("evil.example@localhost", True),  # what a URL parser takes for the host
        ("studio.example.evil.example", False),
        ("127.0.0.1:port", False),
        ("a b", False),
    ],
)
async def test_only_names_of_the_service_are_let_in(host, enters):
    async with door() as http:
        for method, path in (("GET", "/health"), ("GET", f"{API}/nowhere"), ("POST", f"{API}/x")):
            answer = await http.request(method, path, headers={"Host": host})
            assert (answer.status_code == 421) is not enters, (method, path, answer.text)
            if not enters:
                problem = answer.json()
                assert (problem["code"], problem["retryable"]) == ("unknown_host", False)
                assert "ALLOWED_HOSTS" in problem["detail"]
                assert answer.headers["content-type"] == "application/problem+json"
                assert problem["request_id"] == answer.headers["x-request-id"]


async def test_all_names_can_be_let_in():
    async with door(Reach(allowed_hosts=("*",))) as http:
        assert (await http.get("/health", headers={"Host": "any.example"})).status_code == 200
        foreign = {"Host": "any.example", "Origin": "http://other.example"}
        assert (await http.post(f"{API}/x", headers=foreign)).status_code == 403


@pytest.mark.parametrize(
    ("headers", "enters"),
    [
        ({}, True),  # curl
        ({"Origin": "http://127.0.0.1:8000"}, True),
        ({"Origin": "http://127.0.0.1:3000"}, False),  # another program on this machine
        ({"Origin": "http://localhost:8000"}, False),
        ({"Origin": "https://splats.example"}, True),
        ({"Origin": "https://studio.example"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "file://"}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "https://splats.example", "Sec-Fetch-Site": "cross-site"}, True),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_pages_of_other_sites_change_nothing(headers, enters, method):
    async with door() as http:
        answer = await http.request(method, f"{API}/upload", headers=headers)
        assert (answer.status_code == 403) is not enters, answer.text
        if not enters:
            assert answer.json()["code"] == "foreign_origin"
        assert (await http.get("/health", headers=headers)).status_code == 200


async def links_of(http: httpx.AsyncClient, project: str) -> list[str]:
    """Every link that answers about a project hold."""
    prefer = {"Prefer": "respond-async"}
    begun = await http.post(f"{API}/generate/{project}", headers=prefer)
    assert begun.status_code == 202, begun.text
    resource = (await http.get(f"{API}/projects/{project}")).json()
    listed = (await http.get(f"{API}/projects")).json()["projects"][0]
    job = (await http.get(f"{API}/jobs/{begun.json()['id']}", params={"wait": 20})).json()
    status = (await http.get(f"{API}/status/{project}")).json()
    cancelled = await http.post(f"{API}/jobs/{job['id']}/cancel")
    links = [begun.headers["location"], cancelled.headers["location"], *status["view_urls"]]
    for answer in (resource, listed, job, status["project"], status["job"], *status["models"]):
        links += [value for name, value in answer.items() if name.endswith("_url") and value]
    assert len(links) > 30
    return links


async def opens(http: httpx.AsyncClient, url: str) -> None:
    if not url.endswith("/events"):
        assert (await http.get(url)).status_code == 200, url


async def test_every_link_begins_with_the_public_address(
    small_pictures, store_settings, models, limits
):
    reach = Reach("https://splats.example/base")
    async with running(store_settings, models, limits, reach=reach) as service:
        http = service.http
        http.base_url = "http://127.0.0.1:8000"
        project = await upload(service)
        for link in await links_of(http, project):
            assert link.startswith("https://splats.example/base/"), link
            parts = urlsplit(link)
            path = f"{parts.path}?{parts.query}".removesuffix("?")
            await opens(http, path)  # a proxy that hands the path on as it is
            await opens(http, path.removeprefix("/base"))  # one that cuts its part off
        docs = (await http.get("/docs")).text
        assert "'/base/openapi.json'" in docs
        assert "/base/static-offline-docs/swagger-ui.css" in docs
        assert (await http.get("/base/static-offline-docs/swagger-ui.css")).status_code == 200
        document = (await http.get("/base/openapi.json")).json()
        assert document["servers"] == [{"url": "https://splats.example/base"}]


@pytest.mark.parametrize("prefix", ["/api", "/base"])
async def test_a_prefix_is_cut_off_or_not(prefix):
    async with door(Reach(f"https://splats.example{prefix}")) as http:
        for path, status in (
            (f"{API}/upload", 405),  # found
            ("/health", 200),
            ("/openapi.json", 200),
            ("/", 307),
        ):
            assert (await http.get(path)).status_code == status, path
            assert (await http.get(prefix + path)).status_code == status, path
        assert (await http.get(prefix)).headers[
            "location"
        ] == f"https://splats.example{prefix}/docs"


async def test_a_trusted_proxy_says_what_its_client_sees(
    small_pictures, store_settings, models, limits
):
    reach = Reach(trusted_proxies=("10.9.0.0/16",), allowed_hosts=("pics.example", "test"))
    async with running(store_settings, models, limits, reach=reach) as service:
        transport = httpx.ASGITransport(app=service.app, client=PROXY)
        said = {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "pics.example",
            "X-Forwarded-Prefix": "/splats",
            "X-Forwarded-For": "203.0.113.5, 198.51.100.7, 10.9.0.1",
        }
        async with httpx.AsyncClient(
            transport=transport, base_url="http://app:8000", headers=said
        ) as http:
            project = await upload(service)
            for link in await links_of(http, project):
                assert link.startswith("https://pics.example/splats/"), link
                parts = urlsplit(link)
                await opens(http, f"{parts.path}?{parts.query}".removesuffix("?"))
            assert "'/splats/openapi.json'" in (await http.get("/docs")).text
            document = (await http.get("/openapi.json")).json()
            assert document["servers"] == [{"url": "/splats"}]
            evil = {"X-Forwarded-Host": "evil.example"}
            assert (await http.get("/health", headers=evil)).status_code == 421
            foreign = {"Origin": "https://evil.example"}
            assert (await http.post(f"{API}/upload", headers=foreign)).status_code == 403
            own = {"Origin": "https://pics.example"}
            assert (await http.post(f"{API}/upload", headers=own)).status_code == 415


@pytest.mark.parametrize("client", [("198.51.100.7", 1), ("127.0.0.1", 1), ("127.0.0.1", 0), None])
async def test_nobody_else_is_believed(idle_service, client):
    transport = httpx.ASGITransport(app=idle_service.app, client=client)
    said = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "localhost",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-For": "203.0.113.5",
    }
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=said) as http:
        project = await upload(idle_service)
        resource = (await http.get(f"{API}/projects/{project}")).json()
        assert resource["status_url"].startswith("http://test/api/")
        assert "'/openapi.json'" in (await http.get("/docs")).text
        assert (await http.get("/health", headers={"Host": "evil.example"})).status_code == 421


@pytest.mark.parametrize(
    "said",
    [
        {"X-Forwarded-Prefix": "//evil.example"},
        {"X-Forwarded-Prefix": "/a\\b"},
        {"X-Forwarded-Prefix": "javascript:"},
        {"X-Forwarded-Host": "localhost/../x"},
        {"X-Forwarded-Host": "evil@localhost"},
        {"X-Forwarded-Proto": "javascript"},
    ],
)
async def test_what_a_proxy_says_must_make_sense(said):
    async with door(Reach(trusted_proxies=("10.9.0.7",)), PROXY) as http:
        answer = await http.get("/docs", headers=said)
        assert answer.status_code == 200
        assert "'/openapi.json'" in answer.text


@pytest.mark.parametrize(
    ("proxy", "addresses", "client"),
    [
        ("10.9.0.7", "203.0.113.5, 198.51.100.7, 10.9.0.1", "198.51.100.7"),
        ("::ffff:10.9.0.7", "198.51.100.7, ::ffff:10.9.0.1", "198.51.100.7"),
        ("10.9.0.7", "198.51.100.7:4711", "198.51.100.7"),
        ("10.9.0.7", "198.51.100.7, 10.9.0.1:4711", "198.51.100.7"),
        ("10.9.0.7", "[2001:db8::5]:4711", "2001:db8::5"),
        ("10.9.0.7", "2001:db8::5", "2001:db8::5"),
        ("10.9.0.7", "unknown", "10.9.0.7"),
        ("10.9.0.7", "[", "10.9.0.7"),
        ("198.51.100.9", "203.0.113.5", "198.51.100.9"),
    ],
)
async def test_a_trusted_proxy_names_the_client(proxy, addresses, client):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/health",
        "client": (proxy, 4711),
        "headers": [(b"x-forwarded-for", addresses.encode())],
    }
    await FrontDoor(app, Reach(trusted_proxies=("10.9.0.0/16",)))(scope, None, None)
    assert seen["client"][0] == client


@pytest.mark.parametrize(
    "name", ["https://a.example", "a.example:8000", "a.example/base", "*a.example", "a.*.example"]
)
def test_names_that_would_never_match_are_refused(name):
    with pytest.raises(InvalidOption, match="without scheme and port"):
        Reach(allowed_hosts=(name,))
    Reach(allowed_hosts=("*", "*.a.example", "a.example.", "::1", "0.0.0.0"))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InvalidOption, match="public_url"):
        Reach("splats.example")
    with pytest.raises(InvalidOption, match="trusted_proxies"):
        Reach(trusted_proxies=("my-proxy",))
    with pytest.raises(ValidationError, match="trusted_proxies"):
        AppArgs(trusted_proxies="10.0.0.1/8")
    given = AppArgs(allowed_hosts="a.example, *.b.example,", trusted_proxies=["::1"]).reach()
    assert given == Reach(None, ("a.example", "*.b.example"), ("::1",))
