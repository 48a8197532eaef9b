"""What nginx and the web processes of a streaming host are told."""

from __future__ import annotations

from typing import Any

from tests.templates.test_templates import render, unit


def site(**more: Any) -> str:
    """The site of streaming."""
    known: dict[str, Any] = {"streaming_app": "jukebox", "streaming_media_origins": ["a:8081"]}
    return render("streaming", "streaming.conf.j2", **{**known, **more})


def location(text: str, path: str) -> list[str]:
    """The directives of one location."""
    block = text.split(f"location {path} {{", 1)[1].split("\n    }", 1)[0]
    return [line.strip() for line in block.splitlines()]


def test_each_origin_is_one_to_fail_over_to() -> None:
    text = site(streaming_media_origins=["media1:8081", "media2:8081"])
    assert "server media1:8081 max_fails=2 fail_timeout=5s;" in text
    assert "server media2:8081 max_fails=2 fail_timeout=5s;" in text
    assert any(
        line.startswith("proxy_next_upstream error timeout") for line in location(text, "/_media/")
    )


def test_one_listener_fetches_a_slice_and_the_others_wait_for_it() -> None:
    lines = location(site(streaming_media_slice="2m"), "/_media/")
    assert "slice 2m;" in lines and "proxy_cache_lock on;" in lines
    assert "proxy_cache_key $uri$is_args$args$slice_range;" in lines
    # nginx 1.22 would fetch the whole file in the background.
    assert "proxy_cache_background_update off;" in lines


def test_without_origins_nothing_is_served_under_the_prefix() -> None:
    text = site(streaming_media_origins=[])
    assert "return 404;" in location(text, "/_media/")
    assert "proxy_cache_path" not in text and "_several_ranges" not in text


def test_several_ranges_are_reached_from_inside_only() -> None:
    assert "internal;" in location(site(), "/_several_ranges/")


def test_no_download_is_ended_by_a_reload() -> None:
    lines = render("nginx", "nginx.conf.j2", ansible_facts={"processor_nproc": 2}).splitlines()
    assert not [line for line in lines if line.strip().startswith("worker_shutdown_timeout")]
    assert "    aio threads;" in lines and "    sendfile on;" in lines


def test_the_status_page_is_for_this_host_only() -> None:
    text = render("nginx", "nginx.conf.j2", ansible_facts={"processor_nproc": 2})
    assert "listen 127.0.0.1:8082;" in text and "location = /stub_status {" in text


def test_a_reload_reaches_the_nginx_that_has_taken_over() -> None:
    found = unit("nginx", "nginx.service.conf.j2", ansible_facts={"processor_nproc": 2})
    assert found["ExecReload"] == ["", "/usr/sbin/nginx -t -q", "/usr/sbin/nginx -s reload"]
    assert found["PIDFile"] == ["/run/nginx/nginx.pid"]


def test_gunicorn_may_hand_over_its_socket() -> None:
    found = unit("streaming", "web.service.j2", streaming_app="jukebox")
    assert found["SystemCallFilter"][-1] == "@chown"
