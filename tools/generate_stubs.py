"""Generates the Python stubs from the `.proto` files, or checks that the committed ones are up to date.

    python tools/generate_stubs.py            write the stubs beside the .proto files
    python tools/generate_stubs.py --check    generate into a temporary folder; exit 1 and name each file that differs

Needs `grpcio-tools`, `googleapis-common-protos` and, here or on the PATH, `mypy-protobuf` (the release named in
`pyproject.toml`). The stubs carry the version of the grpcio-tools that made them and refuse to run under an older
grpcio or protobuf: make them with the oldest release that the project supports, 1.68.1, in an environment of its own
(today's mypy-protobuf does not fit into it). The check leaves that version and its spelling of Python out: it passes
under newer tools.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Through the link src/relaxon/proto, so that the stubs import each other as relaxon.proto.….
SOURCE = ROOT / "src"
HERE = Path("relaxon", "proto")
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
# What depends on the tools' release and not on the .proto files: versions, `class A(object)`, needless f-strings.
RELEASE = re.compile(r"ValidateProtobufRuntimeVersion\([^)]*\)|\d+\.\d+\.\d+|\(object\)|\bf(?=')")


def generate(target: Path) -> None:
    """Write the stubs of every `.proto` file below `target`, as `relaxon/proto/…`."""
    outputs = ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")
    _protoc(*(f"--{output}={target}" for output in outputs))


def read_descriptors() -> bytes:
    """Every `.proto` file as a `FileDescriptorSet`, with its comments."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "descriptors"
        _protoc("--include_source_info", f"--descriptor_set_out={target}")
        return target.read_bytes()


def _protoc(*options: str) -> None:
    protos = sorted(path.name for path in (ROOT / "proto").glob("*.proto"))
    # The mypy plug-ins are scripts of this interpreter's environment, which need not be the active one.
    scripts = sysconfig.get_path("scripts")
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as googleapis:
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{SOURCE}",
            *(f"-I{folder}" for folder in _google_protos(Path(googleapis))),
            *options,
            *(str(HERE / name) for name in protos),
        ]
        subprocess.run(command, check=True, cwd=SOURCE, env={**os.environ, "PATH": path})


def _google_protos(folder: Path) -> tuple[Path, Path]:
    """Where protoc finds the files of googleapis-common-protos, which has one of them under another name than its own.

    Its Python stubs call `operations_proto.proto` by the name that all other languages know, `operations.proto`.
    """
    from google.longrunning import operations_proto_pb2

    installed = Path(operations_proto_pb2.__file__).parent
    renamed = folder / "google" / "longrunning" / "operations.proto"
    renamed.parent.mkdir(parents=True)
    shutil.copyfile(installed / "operations_proto.proto", renamed)
    return folder, installed.parents[1]


def find_differing(fresh: Path, kept: Path) -> list[str]:
    """Names of stubs that differ, are missing or have lost their `.proto` file."""
    names = {path.name for pattern in GENERATED for folder in (fresh, kept) for path in folder.glob(pattern)}
    return sorted(name for name in names if _content(fresh / name) != _content(kept / name))


def _content(path: Path) -> str | None:
    if not path.exists():
        return None
    return RELEASE.sub("", path.read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit 1 on a difference")
    if not parser.parse_args().check:
        generate(SOURCE)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = find_differing(Path(folder) / HERE, ROOT / "proto")
    for name in stale:
        print(
            f"proto/{name} is not what its .proto file generates; run python tools/generate_stubs.py", file=sys.stderr
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
