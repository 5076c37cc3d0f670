#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Says which files of a room include a header that needs an operating system.

Usage: check-includes.py ROOM_DIRECTORY [PREFIX...]

Allowed are the room's own headers, the public ones, what C gives a freestanding program, the string
functions and the allocator, and any header that begins with a PREFIX.
"""
import pathlib
import re
import sys

ALLOWED = {
    'assert.h', 'inttypes.h', 'limits.h', 'stdalign.h', 'stdarg.h', 'stdbool.h', 'stddef.h',
    'stdint.h', 'stdio.h', 'stdlib.h', 'string.h',
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def main():
    room = pathlib.Path(sys.argv[1])
    prefixes = ('chimney/', room.name + '/', *sys.argv[2:])
    bad = 0
    for path in sorted(room.glob('*.[ch]')):
        for header in INCLUDE.findall(path.read_text()):
            if header not in ALLOWED and not header.startswith(prefixes):
                print(f'{path}: includes {header}')
                bad += 1
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
