"""Flips flags: python flip.py FLAG=VALUE..., values as in JSON. All of one call are seen together."""

import json
import sys

from flags import NAME, Flags

import vdso


def main(words: list[str]) -> None:
    changes = {flag: json.loads(value) for flag, _, value in (word.partition("=") for word in words)}
    # The page is there already, and goes on: one more version, for readers that are attached since long.
    with vdso.publish(NAME, Flags) as publisher:
        print(f"version {publisher.update(**changes)}")


if __name__ == "__main__":
    main(sys.argv[1:])
