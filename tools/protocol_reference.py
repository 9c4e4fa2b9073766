"""Writes the protocol's reference, `docs/reference/protocol.md`, from the `.proto` files and their comments.

    python tools/protocol_reference.py            write the page
    python tools/protocol_reference.py --check    exit 1 where the page is not what would be written

Needs what `tools/generate_stubs.py` needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from generate_stubs import read_descriptors
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent

PAGE = ROOT / "docs" / "reference" / "protocol.md"
PACKAGE = "relaxon.v1"
INTRODUCTION = """# The protocol

Package `relaxon.v1`, written by `python tools/protocol_reference.py` from the comments in `proto/*.proto`. The order of
the messages in a stream and the contents of errors are described in [the service](../service.md#the-protocol), and
[so are stubs for other languages](../service.md#other-languages).
"""
Field = descriptor_pb2.FieldDescriptorProto
File = descriptor_pb2.FileDescriptorProto
# Places in a FileDescriptorProto, of which a comment's path is made.
PACKAGE_FIELD, MESSAGES, ENUMS, SERVICES, FIELDS, NESTED, METHODS, VALUES = 2, 4, 5, 6, 2, 3, 2, 2
SCALARS = {
    value: name.removeprefix("TYPE_").lower()
    for name, value in Field.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}


@dataclass(frozen=True, slots=True)
class _Source:
    """A file with the comments that stand before each of its parts."""

    file: File
    comments: dict[tuple[int, ...], str]

    @classmethod
    def of(cls, file: File) -> _Source:
        found = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        return cls(file, {path: comment.strip() for path, comment in found.items() if comment.strip()})

    def paragraphs(self, *path: int) -> str:
        """The comment as Markdown; its line ends are nobody's business."""
        lines = [line.strip() for line in self.comments.get(path, "").split("\n")]
        return "\n\n".join(" ".join(part.split("\n")) for part in "\n".join(lines).split("\n\n"))

    def cell(self, *path: int) -> str:
        """The comment as a cell of a table."""
        return self.paragraphs(*path).replace("\n\n", " ").replace("|", "\\|")


def page() -> str:
    """The whole page."""
    files = descriptor_pb2.FileDescriptorSet.FromString(read_descriptors()).file
    ours = [_Source.of(file) for file in files if file.package == PACKAGE]
    # What a reader looks for first: the services, then the messages that they share.
    ours.sort(key=lambda source: (not source.file.service, source.file.name))
    lines = [INTRODUCTION]
    for source in ours:
        lines += _file(source)
    return "\n".join(lines).rstrip() + "\n"


def _file(source: _Source) -> Iterator[str]:
    file = source.file
    yield from (f"## {Path(file.name).name}", "", source.paragraphs(PACKAGE_FIELD), "")
    for place, service in enumerate(file.service):
        yield from (f"### {service.name}", "", source.paragraphs(SERVICES, place), "")
        yield from ("| call | takes | gives | |", "|---|---|---|---|")
        for number, method in enumerate(service.method):
            takes = _stream(method.client_streaming) + _named(method.input_type)
            gives = _stream(method.server_streaming) + _named(method.output_type)
            words = source.cell(SERVICES, place, METHODS, number)
            yield f"| `{method.name}` | {takes} | {gives} | {words} |"
        yield ""
    for place, message in enumerate(file.message_type):
        yield from _message(source, message, (MESSAGES, place))
    for place, kind in enumerate(file.enum_type):
        yield from (f"### {kind.name}", "", source.paragraphs(ENUMS, place), "")
        yield from ("| value | number | |", "|---|---|---|")
        for number, value in enumerate(kind.value):
            yield f"| `{value.name}` | {value.number} | {source.cell(ENUMS, place, VALUES, number)} |"
        yield ""


def _message(
    source: _Source, message: descriptor_pb2.DescriptorProto, path: Sequence[int], outer: str = ""
) -> Iterator[str]:
    name = f"{outer}{message.name}"
    yield from (f"### {name}", "")
    words = source.paragraphs(*path)
    if words:
        yield from (words, "")
    if not message.field:
        yield from ("Has no fields.", "")
        return
    yield from ("| field | number | type | |", "|---|---|---|---|")
    for number, field in enumerate(message.field):
        comment = source.cell(*path, FIELDS, number)
        alternative = _oneof(message, field)
        if alternative:
            comment = f"One of `{alternative}`. {comment}".strip()
        yield f"| `{field.name}` | {field.number} | {_type(message, field)} | {comment} |"
    yield ""
    for place, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(source, nested, (*path, NESTED, place), f"{name}.")


def _oneof(message: descriptor_pb2.DescriptorProto, field: Field) -> str:
    """The name of the choice that the field belongs to; empty where it belongs to none."""
    if not field.HasField("oneof_index") or field.proto3_optional:
        return ""
    return message.oneof_decl[field.oneof_index].name


def _type(message: descriptor_pb2.DescriptorProto, field: Field) -> str:
    for nested in message.nested_type:
        if nested.options.map_entry and field.type_name.endswith(f".{message.name}.{nested.name}"):
            key, value = (_type(nested, inner) for inner in nested.field)
            return f"map from {key} to {value}"
    kind = _named(field.type_name) if field.type_name else SCALARS[field.type]
    if field.label == Field.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _named(full_name: str) -> str:
    """A message or an enumeration; a link where it is on this page."""
    name = full_name.removeprefix(".")
    ours = name.removeprefix(f"{PACKAGE}.")
    return f"`{name}`" if ours == name else f"[`{ours}`](#{ours.lower().replace('.', '')})"


def _stream(streaming: bool) -> str:
    return "stream of " if streaming else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit 1 on a difference")
    check = parser.parse_args().check
    fresh = page()
    if not check:
        PAGE.write_text(fresh, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == fresh:
        return 0
    print(
        f"{PAGE.relative_to(ROOT)} is not what the .proto files say; run python tools/protocol_reference.py",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
