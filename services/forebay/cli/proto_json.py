"""Messages of the contract as what JSON can hold."""

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def plain(message: Message | None) -> dict[str, Any]:
    """The message by the contract's names; numbers that are 0 and texts that are empty are there too. None: nothing."""
    if message is None:
        return {}
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
