"""What the quarantine page shows of a payload. The payloads are those of senders who were refused."""

import pytest

from api.pages import SHOWN_CHARACTERS, payload_text


def test_json_is_indented_other_text_is_not_and_bytes_are_hexadecimal() -> None:
    assert payload_text('{"车牌":"蒙C1"}'.encode()) == ('{\n  "车牌": "蒙C1"\n}', False)
    assert payload_text(b"{") == ("{", False)
    assert payload_text(b"\xff\x00") == ("ff 00", True)


@pytest.mark.parametrize("depth", [254, 300, 1_000, 8_000])
def test_a_deep_payload_does_not_take_the_page_away(depth: int) -> None:
    sent = b"[" * depth + b"]" * depth
    assert payload_text(sent)[0].replace(" ", "").replace("\n", "") == sent.decode()


def test_indenting_does_not_make_megabytes_of_kilobytes() -> None:
    for count in (7_000, 30_000):
        sent = b"[" * 250 + b"1," * count + b"1" + b"]" * 250
        assert len(payload_text(sent)[0]) <= max(SHOWN_CHARACTERS, len(sent))
