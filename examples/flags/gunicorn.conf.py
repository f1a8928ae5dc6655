"""Four workers. Flags that nobody has ever set get their defaults; those that somebody set, stay."""

from flags import NAME, Flags

import vdso

workers = 4

# gunicorn reads this in its master, before it loads the application. Published and let go of: whoever flips
# a flag is the publisher for that moment.
vdso.publish(NAME, Flags, initial=Flags()).close()
