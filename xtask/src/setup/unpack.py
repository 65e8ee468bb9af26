"""Unpacks from wheels only what a program needs to be compiled and run against libtorch on a CPU.

usage: unpack.py FOLDER_OF_WHEELS PREFIX
"""

import pathlib
import shutil
import sys
import zipfile

wheels, prefix = map(pathlib.Path, sys.argv[1:])
libraries = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.12", "libcupti.so.12"}

for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = pathlib.PurePosixPath(member.filename)
            if member.is_dir() or ".." in path.parts:
                continue
            if path.parts[:2] == ("torch", "include"):
                target = prefix.joinpath(*path.parts[1:])
            elif path.parent.name == "lib" and path.name in libraries:
                target = prefix / "lib" / path.name
                libraries.remove(path.name)
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)

if libraries:
    sys.exit("the wheels do not hold " + ", ".join(sorted(libraries)))
