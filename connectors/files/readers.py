"""Rows of a file, one after the other, in constant memory: csv, gz, zip member, xlsx, json lines.

A row is its line number (of a spreadsheet: its row number) and its cells as text.
"""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

from connectors.files.mapping import FileForm
from hengliu.events.family import Text

__all__ = ["FileFault", "Row", "Rows", "open_rows"]

MAX_CELL = 1_000_000


class FileFault(Exception):
    """The file as a whole cannot be read as the mapping says."""

    def __init__(self, text: Text) -> None:
        super().__init__(f"{text.zh} / {text.en}")
        self.text = text


@dataclass(frozen=True, slots=True)
class Row:
    """``cells``: stripped of the spaces around them. ``raw``: what a digest of the file is made of."""

    line: int
    cells: Sequence[str]


class Rows:
    """Names of the columns, the rows, and how much of the file has been read (0 to 1)."""

    def __init__(self, columns: Sequence[str], rows: Iterator[Row], done: Callable[[], float]) -> None:
        self.columns = tuple(columns)
        self.rows = rows
        self.done = done


class _Counted(io.RawIOBase):
    """Counts what is read from a stream that cannot tell."""

    def __init__(self, inner: Any, size: int) -> None:
        self._inner = inner
        self.size = max(1, size)
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)

    def done(self) -> float:
        return min(1.0, self.count / self.size)


@contextmanager
def open_rows(path: Path, form: FileForm) -> Iterator[Rows]:
    """Open a file as its mapping says; what it is packed in (gz, zip) is seen from the file itself.

    Raises:
        FileFault: it is not such a file, or its header lacks a column that the mapping uses is found by the caller.
    """
    with ExitStack() as stack:
        try:
            raw: BinaryIO = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise FileFault(Text(f"无法打开文件 {path}：{error.strerror}", f"cannot open {path}: {error.strerror}")) from error
        magic = raw.read(4)
        raw.seek(0)
        if form.format == "xlsx":
            yield _spreadsheet(path, form)
            return
        size = path.stat().st_size
        if magic[:4] == b"PK\x03\x04":
            archive = stack.enter_context(zipfile.ZipFile(raw))
            names = [n for n in archive.namelist() if not n.endswith("/") and fnmatch(n, form.member)]
            if len(names) != 1:
                raise FileFault(
                    Text(
                        f"压缩包内有 {len(names)} 个文件符合“{form.member}”，应恰有一个",
                        f"{len(names)} members of the archive match {form.member!r}; one is expected",
                    )
                )
            member = archive.getinfo(names[0])
            counted = _Counted(stack.enter_context(archive.open(member)), member.file_size)
            stream: Any = io.BufferedReader(counted, 1 << 16)
        else:
            counted = _Counted(raw, size)
            buffered = io.BufferedReader(counted, 1 << 16)
            stream = stack.enter_context(gzip.GzipFile(fileobj=buffered)) if magic[:2] == b"\x1f\x8b" else buffered
        # utf-8-sig is utf-8 that drops a byte order mark; newline="" leaves CR, LF and CRLF to the csv reader.
        encoding = "utf-8-sig" if form.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else form.encoding
        text = io.TextIOWrapper(stream, encoding, newline="")
        try:
            yield _json_lines(text, form, counted) if form.format == "jsonl" else _csv(text, form, counted)
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zipfile.BadZipFile, csv.Error) as error:
            raise FileFault(
                Text(f"文件内容损坏或编码不符：{error}", f"the file is damaged or in another encoding: {error}")
            ) from error


def _csv(text: io.TextIOWrapper, form: FileForm, counted: _Counted) -> Rows:
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(text, delimiter=form.delimiter, quotechar=form.quote or None,
                        quoting=csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE)  # fmt: skip
    for _ in range(form.skip_lines):
        next(reader, None)
    if form.columns:
        columns = list(form.columns)
        if form.header:
            next(reader, None)
    else:
        columns = [c.strip() for c in next(reader, [])]
        if not columns:
            raise FileFault(Text("文件是空的，没有表头", "the file is empty: no header"))

    def rows() -> Iterator[Row]:
        for cells in reader:
            if cells:
                yield Row(reader.line_num, [c.strip() for c in cells])

    return Rows(columns, rows(), counted.done)


def _json_lines(text: io.TextIOWrapper, form: FileForm, counted: _Counted) -> Rows:
    """Each line one flat object; numbers keep their digits as written."""
    columns = list(form.columns)

    def rows() -> Iterator[Row]:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line, parse_float=str, parse_int=str)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                yield Row(number, ())
                continue
            cells = (found.get(c) for c in columns)
            yield Row(number, ["" if c is None else str(c).strip() for c in cells])

    return Rows(columns, rows(), counted.done)


def _spreadsheet(path: Path, form: FileForm) -> Rows:
    try:
        from python_calamine import load_workbook
    except ImportError as error:  # the light install reads csv alone
        raise FileFault(Text("读取 xlsx 需要安装 hengliu[platform]", "reading xlsx needs hengliu[platform]")) from error
    try:
        book = load_workbook(path)
        sheet = book.get_sheet_by_name(form.sheet) if form.sheet else book.get_sheet_by_index(0)
    except Exception as error:  # the library declares no base class
        raise FileFault(Text(f"无法读取工作簿：{error}", f"cannot read the workbook: {error}")) from error
    found = iter(sheet.to_python(skip_empty_area=False))
    total = max(1, sheet.height)
    for _ in range(form.skip_lines):
        next(found, None)
    header = [_cell(c) for c in next(found, [])] if form.header or not form.columns else []
    columns = list(form.columns) or header
    at = [form.skip_lines + bool(header)]

    def rows() -> Iterator[Row]:
        for cells in found:
            at[0] += 1
            texts = [_cell(c) for c in cells]
            if any(texts):
                yield Row(at[0], texts)

    return Rows(columns, rows(), lambda: min(1.0, at[0] / total))


def _cell(value: object) -> str:
    """A spreadsheet's cell as a person typed it: 12, not 12.0; times as ISO."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if isoformat is not None else str(value).strip()
