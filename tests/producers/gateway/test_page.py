"""The page in a real browser: a prompt's text, each token coloured by where it came from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from playwright.async_api import Browser, Page, expect
from redis.asyncio import Redis

from dsdq.bus.embedded import free_port
from dsdq.bus.tenants import TenantStore
from dsdq.models.names import HASH_TARGET
from dsdq.models.tokenizer import Tokenizer
from dsdq.tenants import Tenant, fresh_key
from dsdq.testing.hashed import decode
from tests.conftest import Serve
from tests.producers.gateway.conftest import OpenGateway, gateway_at

PROMPT, TOKENS = "def fib(n):", 48
KINDS = ("accepted", "correction", "bonus", "target")


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Give a page of a headless Chromium; whatever it complains about fails the test."""
    shown = await browser.new_page(viewport={"width": 1280, "height": 800})
    complaints = list[str]()
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    yield shown
    await shown.close()
    assert complaints == []


async def test_a_prompt_gets_the_targets_text_with_every_token_coloured(
    serve: Serve, open_gateway: OpenGateway, page: Page
) -> None:
    tokenizer = Tokenizer.load(HASH_TARGET)
    async with serve(HASH_TARGET, allow_unsafe_redis=True), open_gateway() as url:
        await page.goto(url.removesuffix("v1"))
        await expect(page.locator("#model")).to_have_value(HASH_TARGET)
        await page.fill("#prompt", PROMPT)
        await page.fill("#tokens", str(TOKENS))
        await page.click("#run")
        await expect(page.locator("#figures")).to_contain_text(f"{TOKENS} tokens")
        text = await page.locator("#text").text_content()
        counts = [int(await page.locator(f"#count-{kind}").inner_text()) for kind in KINDS]
        coloured = [await page.locator(f"#text .{kind}").count() for kind in KINDS]
    assert text == PROMPT + tokenizer.decode(decode(tokenizer.encode(PROMPT), TOKENS))
    assert counts == coloured
    assert sum(counts) == TOKENS
    assert counts[KINDS.index("accepted")] > 0  # what else there is, is luck


async def test_a_page_that_was_there_first_learns_of_a_verifier(
    serve: Serve, open_gateway: OpenGateway, page: Page
) -> None:
    async with open_gateway() as url:
        await page.goto(url.removesuffix("v1"))
        await expect(page.locator("#state")).to_contain_text("no verifier")
        async with serve(HASH_TARGET, allow_unsafe_redis=True):
            await expect(page.locator("#model")).to_have_value(HASH_TARGET)
            await expect(page.locator("#state")).to_have_text("")


async def test_a_text_can_be_stopped_and_errors_are_shown(
    serve: Serve, open_gateway: OpenGateway, page: Page, redis: Redis
) -> None:
    key, record = fresh_key("acme")
    await TenantStore(redis).add(Tenant(name="acme", created=datetime.now(UTC), keys=(record,)))
    async with serve(HASH_TARGET, allow_unsafe_redis=True, hash_step_ms=20) as verifier, open_gateway() as url:
        await page.goto(url.removesuffix("v1"))
        await expect(page.locator("#state")).to_contain_text("API key")
        await page.click("#run")
        await expect(page.locator("#text .error")).to_contain_text("API key")
        await page.fill("#key", key)
        await page.locator("#key").blur()
        await expect(page.locator("#model")).to_have_value(HASH_TARGET)
        await page.fill("#tokens", "1000")
        await page.click("#run")
        await expect(page.locator("#text .accepted").first).to_be_visible()
        await page.click("#run")
        await expect(page.locator("#run")).to_have_text("Generate")
        while len(verifier._sessions):
            await page.wait_for_timeout(20)
        assert await page.locator("#text .error").count() == 0


# What the service does at the moment


async def test_the_page_shows_what_the_service_does_and_draws_its_last_minute(
    serve: Serve, open_gateway: OpenGateway, page: Page
) -> None:
    async with serve(HASH_TARGET, allow_unsafe_redis=True, hash_step_ms=20) as verifier, open_gateway() as url:
        await page.goto(url.removesuffix("v1"))
        await expect(page.locator("#live-verifiers")).to_have_text("1")
        await expect(page.locator("#workers tr")).to_contain_text([verifier.info.wid])
        await expect(page.locator("#live-tokens-s")).to_have_text("0")
        await page.fill("#tokens", "1000")
        await page.click("#run")
        await expect(page.locator("#live-sessions")).to_have_text("1")
        await expect(page.locator("#live-acceptance")).to_contain_text("%")
        await expect(page.locator("#live-batch-size")).to_have_text("1.0")
        await expect(page.locator("#own")).to_contain_text("Tenant default: sessions 1")
        await expect(page.locator("#live-state")).to_have_text("")
        await page.click("#run")
        points = (await page.locator("#tiles polyline").nth(2).get_attribute("points") or "").split()
    assert len(points) > 2
    assert len({point.split(",")[1] for point in points}) > 1  # a line that rose


async def test_the_page_follows_a_gateway_that_comes_back_and_a_key_that_is_entered(
    serve: Serve, redis_url: str, page: Page, redis: Redis
) -> None:
    port = free_port()
    async with serve(HASH_TARGET, allow_unsafe_redis=True):
        async with gateway_at(redis_url, port=port, allow_unsafe_redis=True):
            await page.goto(f"http://127.0.0.1:{port}/")
            await expect(page.locator("#live-verifiers")).to_have_text("1")
        await expect(page.locator("#live-state")).to_have_text("reconnecting")
        await expect(page.locator("#tiles")).to_have_class("stale")
        async with gateway_at(redis_url, port=port, allow_unsafe_redis=True):
            await expect(page.locator("#live-state")).to_have_text("")
            key, record = fresh_key("acme")
            await TenantStore(redis).add(Tenant(name="acme", created=datetime.now(UTC), keys=(record,)))
            await expect(page.locator("#live-state")).to_contain_text("API key")
            await page.fill("#key", key)
            await page.locator("#key").blur()
            await expect(page.locator("#live-state")).to_have_text("")
            await expect(page.locator("#own")).to_contain_text("Tenant acme: sessions 0")
