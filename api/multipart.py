"""A form with one file, read as it comes: the bytes go on to the database, never to this machine's disk.

The file is the form's last part, so that all that is said about it is known when its first byte arrives.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from api.errors import InvalidInput, TooLarge
from screening.errors import Problem

MOST_FIELDS = 10
MOST_FIELD_BYTES = 200_000
MOST_FILE_BYTES = 200_000_000
Chunks = Callable[[], bytes]
"""The next piece of the body; b"" after the last."""


@dataclass
class _Part:
    name: str
    file_name: str | None
    content: bytearray = field(default_factory=bytearray)


class SentForm:
    """A form on its way in: `fields` and `file_name` at once, `content` once and piece by piece.

    `digest` is that of the whole, as soon as `content` has been read to its end.
    """

    def __init__(self, content_type: str, chunks: Chunks, *, fields: frozenset[str]) -> None:
        self._allowed = fields
        self._chunks = chunks
        self._events: deque[tuple[str, bytes]] = deque()
        self._parser = self._made(content_type)
        self._whole = hashlib.sha256()
        self._is_over = False
        self.fields: dict[str, str] = {}
        self.file_name = ""
        self._read_fields()

    def content(self) -> Iterator[bytes]:
        """The file's bytes. Raises TooLarge, or InvalidInput for whatever stands behind the file."""
        size = 0
        for event, data in self._walk():
            if event == "part_end":
                break
            size += len(data)
            if size > MOST_FILE_BYTES:
                raise TooLarge(f"A file may have {MOST_FILE_BYTES // 1_000_000} MB; send it in parts.")
            self._whole.update(data)
            yield data
        for event, _ in self._walk():
            if event == "part_begin":
                raise _wrong("file_not_last", "The file is the form's last part; put the other fields before it.")

    @property
    def digest(self) -> bytes:
        return self._whole.digest()

    def mapping(self, name: str) -> Mapping[str, str]:
        """A field that holds a JSON object of texts; empty when it is absent."""
        text = self.fields.get(name, "")
        if not text.strip():
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(isinstance(v, str) and _is_plain(k + v) for k, v in found.items()):
            raise _wrong("invalid_map", 'Write the column map as JSON: {"column of the file": "phq9_1"}.', name)
        return found

    # -- reading ----------------------------------------------------------------------------------------

    def _made(self, content_type: str) -> MultipartParser:
        kind, options = parse_options_header(content_type.encode("latin-1"))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
            raise _wrong("not_a_form", "Send a form: Content-Type multipart/form-data with the file in it.")

        def data(name: str) -> Callable[[bytes, int, int], None]:
            return lambda body, start, end: self._events.append((name, body[start:end]))

        def mark(name: str) -> Callable[[], None]:
            return lambda: self._events.append((name, b""))

        return MultipartParser(
            boundary,
            {
                "on_part_begin": mark("part_begin"),
                "on_part_data": data("data"),
                "on_part_end": mark("part_end"),
                "on_header_field": data("header_name"),
                "on_header_value": data("header_value"),
                "on_header_end": mark("header_end"),
                "on_headers_finished": mark("headers_end"),
                "on_end": mark("end"),
            },
        )

    def _walk(self) -> Iterator[tuple[str, bytes]]:
        """What the parser finds, as far as it has been asked for."""
        while True:
            while self._events:
                event = self._events.popleft()
                if event[0] == "end":
                    self._is_over = True
                yield event
            piece = b"" if self._is_over else self._chunks()
            if not piece:
                if not self._is_over:
                    raise _wrong("form_cut_off", "The form ends in the middle. Send it again.")
                return
            try:
                self._parser.write(piece)
            except FormParserError:
                raise _wrong("unreadable_form", "The form cannot be read as multipart/form-data.") from None

    def _read_fields(self) -> None:
        for part in self._parts():
            if part.file_name is not None:
                self.file_name = part.file_name
                return
            if part.name not in self._allowed or part.name in self.fields:
                raise _wrong("unknown_field", f"Fields are {', '.join(sorted(self._allowed))} and file, each once.")
            try:
                self.fields[part.name] = part.content.decode()
            except UnicodeDecodeError:
                raise _wrong("unreadable_field", "Write the fields in UTF-8.", part.name) from None
            if not _is_plain(self.fields[part.name]):
                raise _wrong("unreadable_field", "This field holds a sign that is no text.", part.name)
            self._whole.update(json.dumps([part.name, self.fields[part.name]]).encode())
        raise _wrong("no_file", "There is no file in this form; call its part file.")

    def _parts(self) -> Iterator[_Part]:
        """Each field once it is whole; the file as soon as its content begins."""
        header: dict[bytes, bytearray] = {}
        name, value = bytearray(), bytearray()
        part: _Part | None = None
        size = 0
        for event, data in self._walk():
            if event == "part_begin":
                header, part = {}, None
            elif event == "header_name":
                name += data
            elif event == "header_value":
                value += data
            elif event == "header_end":
                header[bytes(name).lower()] = value
                name, value = bytearray(), bytearray()
            elif event == "headers_end":
                part = _begun(bytes(header.get(b"content-disposition", b"")))
                if part.file_name is not None:
                    yield part
            elif event == "data" and part is not None:
                part.content += data
                size += len(data)
                if size > MOST_FIELD_BYTES:
                    raise TooLarge("The fields beside the file are too long.")
            elif event == "part_end" and part is not None:
                yield part


def _begun(disposition: bytes) -> _Part:
    _, options = parse_options_header(disposition)
    name = options.get(b"name", b"").decode("utf-8", "replace")
    file_name = options.get(b"filename")
    if file_name is None:
        return _Part(name, None)
    if name != "file":
        raise _wrong("unknown_field", "The file's part is called file.")
    shown = file_name.decode("utf-8", "replace").replace("\x00", "")[-200:]
    return _Part(name, shown or "file")


def _is_plain(text: str) -> bool:
    """Whether the database can hold it: no NUL, no half of a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def _wrong(code: str, words: str, column: str | None = None) -> InvalidInput:
    return InvalidInput(words, code=code, problems=[Problem(code, words, column=column)])
