"""Feature flags: what they are, said once, for the workers that read them and for whoever flips them."""

import vdso

NAME = "flags"


@vdso.page
class Flags:
    new_checkout: bool = False
    rollout_percent: vdso.U8 = 0
    discount: float = 0.0
    banner: vdso.Str[80] = ""
