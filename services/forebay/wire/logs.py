"""One line a log record, for people or as JSON; prompts and secrets are never passed to a logger."""

import json
import logging
import sys


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object; what was passed as `extra={"fields": {...}}` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line of JSON."""
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record for a person: time, level, logger, message and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line of text."""
        line = super().format(record)
        fields = getattr(record, "fields", {})
        return f"{line} {' '.join(f'{key}={value}' for key, value in fields.items())}" if fields else line


def configure(level: str, json_lines: bool) -> None:
    """Sends all records to standard error; called once, by composition roots."""
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if json_lines else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
