"""A coverage-guided fuzz target: `make fuzz`. What it finds becomes a test in tests/unit/kernel.

Its first byte says what the rest is: an image, a file (a core, a kernel image), packed data or a text of
/proc. The corpus lies under build/fuzz and starts with what the mutation tests start with.
"""

import contextlib
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

with atheris.instrument_imports(include=["vdso.kernel", "vdso.commands.output"]):
    import elves
    import exercise
    import kernels

    from vdso.errors import SourceError
    from vdso.kernel import Image, source, unpack

CORPUS = ROOT / "build" / "fuzz" / "corpus"
UNPACKED_BYTES = 1 << 20


def target(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind in (b"i", b"c"):
        # Its code takes ten times as long.
        exercise.image(rest, code=kind == b"c")
    elif kind == b"f":
        exercise.file(rest)
    elif kind == b"t":
        exercise.texts(rest)
    elif kind == b"p":
        packing = unpack.format_of(rest)
        with contextlib.suppress(SourceError):
            size = 0
            for chunk in unpack.unpack(packing, iter([rest])) if packing else ():
                size += len(chunk)
                if size > UNPACKED_BYTES:
                    return


def seed() -> None:
    """Puts the seeds into the corpus."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    seeds = {"own": b"i" + source.read().images[0].data}
    images = {}
    for machine in elves.MACHINES:
        for hashes in (("sysv",), ("gnu",), ("sysv", "gnu")):
            images[machine] = bytes(elves.build(machine, hashes=hashes, code=bytes(range(96))))
            seeds[f"{machine}-{'-'.join(hashes)}"] = b"i" + images[machine]
        seeds[f"{machine}-code"] = b"c" + images[machine]
    for bits, order in ((64, "<"), (32, "<"), (64, ">"), (32, ">")):
        seeds[f"core-{bits}-{'little' if order == '<' else 'big'}"] = b"f" + elves.core(
            images["x86-64"], 0xF7FC_0000, bits=bits, order=order
        )
    body = kernels.kernel(images["x86-64"], size=16 << 10, first=0x1000)
    seeds["vmlinux"] = b"f" + kernels.vmlinux(body)
    for name, pack in kernels.PACK.items():
        seeds[f"bzimage-{name}"] = b"f" + kernels.bzimage(pack(body))
        seeds[f"zboot-{name}"] = b"f" + kernels.zboot(pack(body))
        seeds[f"packed-{name}"] = b"p" + pack(images["arm"])
    seeds["maps"] = b"t" + Path("/proc/self/maps").read_bytes()
    seeds["auxv"] = b"t" + Path("/proc/self/auxv").read_bytes()
    for name, data in seeds.items():
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    assert Image.from_process().functions
    seed()
    atheris.Setup([*sys.argv, str(CORPUS)], target)
    atheris.Fuzz()
