"""Every error body that was met in the wild, and what it is taken for: one line each."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from orrouter.core.errors import UpstreamError
from orrouter.wire.faults import Answer, fault_in, fault_of
from orrouter.wire.sse import SSEDecoder

NOW = 1_765_680_000.0  # 2025-12-14 02:40:00 UTC: 60 s before the reset of row 25
BODIES = Path(__file__).parents[1] / "data" / "error_bodies.jsonl"
ROWS = [orjson.loads(line) for line in BODIES.read_bytes().splitlines()]

# (row, kind): (code, again, onward, billed, scope, seconds to wait); None is a success
EXPECTED = {
    (0, "allowed_providers"): ("no_route", "no", "always", "no", "target", None),
    (1, "allowed_providers"): ("no_route", "no", "always", "no", "target", None),
    (2, "authentication"): ("auth_failed", "no", "other_key", "no", "target", None),
    (3, "authentication"): ("auth_failed", "no", "other_key", "no", "target", None),
    (4, "authentication"): ("auth_failed", "no", "other_key", "no", "target", None),
    (5, "auto_router_empty"): ("no_route", "no", "always", "no", "target", None),
    (6, "availability"): ("rate_limited", "yes", "always", "no", "target", 40.0),
    (7, "availability"): ("model_not_found", "no", "always", "no", "target", None),
    (8, "availability"): ("no_route", "no", "always", "no", "target", None),
    (9, "batch_only"): ("no_route", "no", "always", "no", "target", None),
    (10, "choice_error"): ("overloaded", "last_once", "always", "maybe", "target", None),
    (11, "choice_error"): ("server_error", "yes", "always", "maybe", "target", None),
    (12, "choice_error"): ("server_error", "yes", "always", "no", "target", None),
    (13, "context_length"): ("context_overflow", "no", "larger_context", "no", "target", None),
    (14, "credits"): ("credits_exhausted", "no", "other_key", "no", "target", None),
    (15, "credits_afford_tokens"): ("credits_exhausted", "no", "other_key", "no", "target", None),
    (16, "credits_afford_tokens"): ("credits_exhausted", "no", "other_key", "no", "target", None),
    (17, "credits_afford_tokens"): ("credits_exhausted", "no", "other_key", "no", "target", None),
    (18, "data_policy"): ("no_route", "no", "always", "no", "target", None),
    (19, "data_policy"): ("no_route", "no", "always", "no", "target", None),
    (20, "data_policy"): ("no_route", "no", "always", "no", "target", None),
    (21, "empty_body_429"): ("rate_limited", "yes", "always", "no", "target", None),
    (22, "empty_choices"): ("empty_reply", "yes", "always", "maybe", "target", None),
    (23, "free_per_day"): ("rate_limited", "yes", "always", "no", "free", 76800.0),
    (24, "free_per_day"): ("rate_limited", "yes", "always", "no", "free", 86400.0),
    (25, "free_per_minute"): ("rate_limited", "yes", "always", "no", "free", 60.0),
    (26, "free_variant_ended"): ("model_not_found", "no", "always", "no", "target", None),
    (27, "gate_attestation"): ("no_route", "no", "always", "no", "target", None),
    (28, "gate_geo"): ("no_route", "no", "always", "no", "target", None),
    (29, "generation_pending"): ("transient", "yes", "always", "no", "target", None),
    (30, "guardrail_404"): ("no_route", "no", "always", "no", "target", None),
    (31, "guardrail_404"): ("no_route", "no", "always", "no", "target", None),
    (32, "guardrail_block"): ("moderated", "no", "never", "no", "target", None),
    (33, "html_200"): ("server_error", "yes", "always", "maybe", "target", None),
    (34, "html_52x"): ("server_error", "yes", "always", "maybe", "target", None),
    (35, "html_52x"): ("server_error", "yes", "always", "maybe", "target", None),
    (36, "html_52x"): ("server_error", "yes", "always", "maybe", "target", None),
    (37, "ignored_providers"): ("no_route", "no", "always", "no", "target", None),
    (38, "in_flight_budget"): ("rate_limited", "yes", "always", "no", "key", 3.0),
    (39, "in_flight_budget"): ("rate_limited", "yes", "always", "no", "key", None),
    (40, "in_flight_weight"): ("credits_exhausted", "no", "other_key", "no", "target", None),
    (41, "invalid_json"): ("invalid_request", "no", "never", "no", "target", None),
    (42, "invalid_request"): ("invalid_request", "no", "never", "no", "target", None),
    (43, "key_limit"): ("key_limit_reached", "no", "other_key", "no", "target", None),
    (44, "key_limit_403"): ("key_limit_reached", "no", "other_key", "no", "target", None),
    (45, "key_limit_afford_tokens"): ("key_limit_reached", "no", "other_key", "no", "target", None),
    (46, "key_limit_afford_tokens"): ("key_limit_reached", "no", "other_key", "no", "target", None),
    (47, "key_limit_afford_tokens"): ("key_limit_reached", "no", "other_key", "no", "target", None),
    (48, "model_not_found"): ("model_not_found", "no", "always", "no", "target", None),
    (49, "models_too_long"): ("invalid_request", "no", "never", "no", "target", None),
    (50, "moderation"): ("moderated", "no", "never", "no", "target", None),
    (51, "moderation"): ("moderated", "no", "never", "no", "target", None),
    (52, "no_backend"): ("overloaded", "last_once", "always", "no", "target", None),
    (53, "no_endpoints"): ("no_route", "no", "always", "no", "target", None),
    (54, "no_endpoints"): ("no_route", "no", "always", "no", "target", None),
    (55, "no_modality"): ("no_route", "no", "always", "no", "target", None),
    (56, "no_modality"): ("no_route", "no", "always", "no", "target", None),
    (57, "no_route_503"): ("no_route", "no", "always", "no", "target", None),
    (58, "no_tool_support"): ("no_route", "no", "always", "no", "target", None),
    (59, "oauth"): ("invalid_request", "no", "never", "no", "target", None),
    (60, "ok_with_error"): ("overloaded", "last_once", "always", "no", "target", None),
    (61, "ok_with_error"): ("server_error", "yes", "always", "no", "target", None),
    (62, "ok_with_error"): ("server_error", "yes", "always", "no", "target", None),
    (63, "ok_with_error"): ("server_error", "yes", "always", "maybe", "target", None),
    (64, "ok_with_error"): ("server_error", "yes", "always", "no", "target", None),
    (65, "ok_with_error_code200"): ("server_error", "yes", "always", "maybe", "target", None),
    (66, "ok_with_error_policy"): ("moderated", "no", "never", "no", "target", None),
    (67, "ok_with_error_wallclock"): ("upstream_timeout", "no", "always", "maybe", "target", None),
    (68, "padded_json_truncated"): ("server_error", "yes", "always", "maybe", "target", None),
    (69, "parameters"): ("no_route", "no", "always", "no", "target", None),
    (70, "pdf_502"): ("server_error", "yes", "always", "maybe", "target", None),
    (71, "permission"): ("auth_failed", "no", "other_key", "no", "target", None),
    (72, "prompt_unaffordable"): ("key_limit_reached", "no", "other_key", "no", "target", None),
    (73, "provider_overloaded"): ("overloaded", "last_once", "always", "no", "target", None),
    (74, "provider_unavailable"): ("server_error", "yes", "always", "no", "target", None),
    (75, "rate_limit"): ("rate_limited", "yes", "always", "no", "target", 60.0),
    (76, "reasoning_exhausted"): None,
    (77, "reasoning_mandatory"): ("invalid_request", "no", "never", "no", "target", None),
    (78, "refusal_output"): None,
    (79, "route_not_found"): ("invalid_request", "no", "never", "no", "target", None),
    (80, "server"): ("server_error", "yes", "always", "no", "target", None),
    (81, "sse_choice_error_done"): ("server_error", "yes", "always", "no", "target", None),
    (82, "sse_choice_error_policy"): ("no_route", "no", "always", "no", "target", None),
    (83, "sse_comment_as_data"): None,
    (84, "sse_error_bare"): ("rate_limited", "yes", "always", "no", "provider", None),
    (85, "sse_error_first"): ("server_error", "yes", "always", "no", "target", None),
    (86, "sse_error_mid"): ("overloaded", "last_once", "always", "no", "target", None),
    (87, "sse_error_nested_raw"): ("overloaded", "last_once", "always", "no", "target", None),
    (88, "sse_idle_timeout"): ("server_error", "yes", "always", "no", "target", None),
    (89, "sse_late_429"): ("rate_limited", "yes", "always", "no", "provider", None),
    (90, "sse_messages_error"): ("overloaded", "last_once", "always", "no", "target", None),
    (91, "sse_ok_double_finish"): None,
    (92, "sse_responses_failed"): ("server_error", "yes", "always", "no", "target", None),
    (93, "sse_routing_error"): ("no_route", "no", "always", "no", "target", None),
    (94, "sse_truncated"): None,
    (95, "string_error"): ("server_error", "yes", "always", "maybe", "target", None),
    (96, "transient_404"): ("transient", "once", "always", "no", "target", None),
    (97, "upstream_400"): ("invalid_request", "no", "never", "no", "target", None),
    (98, "upstream_400_mixed"): ("invalid_request", "no", "never", "no", "target", None),
    (99, "upstream_404_mixed"): ("transient", "once", "always", "no", "target", None),
    (100, "upstream_429"): ("rate_limited", "yes", "always", "no", "provider", None),
    (101, "upstream_429"): ("rate_limited", "yes", "always", "no", "provider", 1.0),
    (102, "upstream_429"): ("rate_limited", "yes", "always", "no", "provider", None),
    (103, "upstream_429"): ("rate_limited", "yes", "always", "no", "provider", None),
    (104, "upstream_429_flat"): ("rate_limited", "yes", "always", "no", "provider", None),
    (105, "upstream_geo"): ("no_route", "no", "always", "no", "target", None),
    (106, "usage_byok"): None,
    (107, "vendor_ban"): ("no_route", "no", "always", "no", "target", None),
    (108, "workspace_budget"): ("key_limit_reached", "no", "other_key", "no", "target", None),
    (109, "zod_validation"): ("invalid_request", "no", "never", "no", "target", None),
}


def payloads(row: dict) -> list[dict]:
    """The events of a stream that are JSON objects."""
    decoder = SSEDecoder()
    events = decoder.feed(row["body"].encode()) + decoder.flush()
    return [orjson.loads(event) for event in events if event.startswith(b"{")]


def judged(row: dict) -> UpstreamError | None:
    headers = row.get("headers", {})
    if row["kind"].startswith("sse_"):
        faults = (fault_in(payload, whole=False, headers=headers, now=NOW) for payload in payloads(row))
        return next((fault for fault in faults if fault is not None), None)
    body = row["body"] if isinstance(row["body"], str) else orjson.dumps(row["body"])
    return fault_of(Answer(row["status"], headers, body), needs=needed(row), now=NOW)


def needed(row: dict) -> str | None:
    """What a success must hold. The row of BYOK usage is a clipping of an answer, so nothing is asked of it."""
    if row["kind"] == "usage_byok":
        return None
    return "choices" if row["endpoint"] == "/chat/completions" else "data"


def verdict(fault: UpstreamError | None) -> tuple | None:
    if fault is None:
        return None
    return (fault.code, fault.again, fault.onward, fault.billed, fault.scope, fault.retry_after)


def test_the_table_names_every_row():
    """A row that is added fails until somebody has said what it is."""
    assert list(EXPECTED) == [(number, row["kind"]) for number, row in enumerate(ROWS)]


@pytest.mark.parametrize(("number", "kind"), EXPECTED)
def test_a_captured_answer_gets_its_verdict(number, kind):
    """Class, same target, chain, bill, scope and wait of each body."""
    assert EXPECTED[number, kind] == verdict(judged(ROWS[number]))


@pytest.mark.parametrize("number", [number for number, row in enumerate(ROWS) if row.get("retryable") is False])
def test_what_was_seen_to_fail_again_is_not_asked_again_at_once(number):
    """Rows observed as not retryable: the same target is left alone, or told to wait until the next day's counter."""
    fault = judged(ROWS[number])
    assert fault is None or fault.again == "no" or fault.retry_after > 3600


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_no_message_or_raw_tells_who_the_user_is(number):
    """User ids stand in the bodies and nowhere else."""
    fault = judged(ROWS[number])
    assert "user_REDACTED" not in f"{fault} {getattr(fault, 'raw', None)}"


def test_a_comment_sent_as_data_is_no_payload_to_judge():
    """A proxy re-emitted the keep-alive as data: what is no JSON never reaches the classifier."""
    row = next(row for row in ROWS if row["kind"] == "sse_comment_as_data")
    assert [": OPENROUTER PROCESSING"] == [
        event.decode() for event in SSEDecoder().feed(row["body"].encode()) if not event.startswith(b"{")
    ]
