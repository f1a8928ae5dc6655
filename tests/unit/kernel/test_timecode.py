"""What the code of time() reveals, as compilers write it, and what is not taken for an answer."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdso.errors import VvarUnproven
from vdso.kernel import timecode

BEFORE = 6 * 4096
AT = 0x400
Assemble = Callable[..., bytes]

FOUND = {
    "one load, a page further or nearer": (
        """
            cmpl $0x7fffffff, page+4(%rip)
            lea page+0x1000(%rip), %rax
            je 1f
            sub $0x1000, %rax
        1:  mov 0x28(%rax), %rax
            test %rdi, %rdi
            je 2f
            mov %rax, (%rdi)
        2:  xor %edi, %edi
            ret""",
        (4, 0x28, 0x1028),
    ),
    "two loads, by a jump": (
        """
            endbr64
            push %rbp
            mov %rsp, %rbp
            mov page+132(%rip), %eax
            cmp $0x7fffffff, %eax
            je 1f
            mov page+160(%rip), %rax
        3:  test %rdi, %rdi
            jne 2f
            pop %rbp
            ret
        2:  mov %rax, (%rdi)
            pop %rbp
            ret
        1:  lea page+0x3080(%rip), %rdx
            add $0x20, %rdx
            mov (%rdx), %rax
            jmp 3b""",
        (132, 160, 0x30A0),
    ),
    "a choice without a jump": (
        """
            lea page+128(%rip), %rax
            lea page+0x3080(%rip), %r8
            cmpl $0x7fffffff, 4(%rax)
            cmove %r8, %rax
            mov 40(%rax), %rax
            test %rdi, %rdi
            je 2f
            mov %rax, (%rdi)
        2:  ret""",
        (132, 168, 0x30A8),
    ),
    "no time namespaces": (
        """
            mov page+40(%rip), %rax
            test %rdi, %rdi
            je 2f
            mov %rax, (%rdi)
        2:  ret""",
        (None, 40, None),
    ),
}

LOST = {
    "it calls": "call page\nret",
    "it never ends": "1: jmp 1b",
    "it leads out": "jmp page",
    "it makes a system call": "mov $201, %eax\nsyscall\nret",
    "it returns a number": "xor %eax, %eax\nret",
    "it returns its argument": "mov %rdi, %rax\nret",
    "it returns what it computed": "mov page+40(%rip), %rax\nadd $1, %rax\nret",
    "an address that is not known": "mov (%rsi), %rax\nret",
    "an address in the image": "mov page+0x7000(%rip), %rax\nret",
    "a table": "lea page(%rip), %rdx\nmov (%rdx,%rcx,8), %rax\nret",
    "another segment": "mov %fs:40, %rax\nret",
    "two places for the mode": """
            cmpl $0x7fffffff, page+4(%rip)
            je 1f
            cmpl $0x7fffffff, page+8(%rip)
            je 1f
            mov page+40(%rip), %rax
        1:  ret""",
    "a comparison with something else": """
            cmpl $1, page+4(%rip)
            je 1f
            mov page+40(%rip), %rax
        1:  ret""",
    "a jump after no comparison": "je 1f\n1: mov page+40(%rip), %rax\nret",
    "half of the seconds": "mov page+40(%rip), %eax\nret",
    "a part of a register": "mov page+40(%rip), %rax\nmov %cl, %al\nret",
    "a mode of eight bytes": """
            mov page+4(%rip), %rax
            cmp $0x7fffffff, %rax
            je 1f
            mov page+40(%rip), %rax
        1:  ret""",
    "nothing": "",
}


def relative(address: int | None) -> int | None:
    return None if address is None else address + BEFORE


@pytest.mark.parametrize("name", FOUND)
def test_found(assemble: Assemble, name: str) -> None:
    source, expected = FOUND[name]
    found = timecode.read_time(assemble(source, AT, BEFORE), AT)
    assert (relative(found.mode), relative(found.sec), relative(found.sec_in_namespace)) == expected


@pytest.mark.parametrize("name", LOST)
def test_not_understood(assemble: Assemble, name: str) -> None:
    with pytest.raises(VvarUnproven, match="not understood"):
        timecode.read_time(assemble(LOST[name], AT, BEFORE), AT)


def test_references(assemble: Assemble) -> None:
    source = "lea page+232(%rip), %rax\nmov 248(%rax), %rdx\nadd $4096, %rdx\nret"
    found = timecode.references(assemble(source, AT, BEFORE), AT)
    assert {address + BEFORE for address in found.addresses} == {232}
    assert {248, 4096} <= found.numbers


@settings(max_examples=200, deadline=2000)
@given(st.data())
def test_any_code_ends(assemble: Assemble, data: st.DataObject) -> None:
    source = FOUND[data.draw(st.sampled_from(sorted(FOUND)))][0]
    code = bytearray(assemble(source, AT, BEFORE))
    for _ in range(data.draw(st.integers(1, 6))):
        code[data.draw(st.integers(0, len(code) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = timecode.read_time(bytes(code), AT)
    except VvarUnproven:
        return
    # Whatever it is, it lies before the image: for the layout to refuse, and the proofs.
    assert found.sec < 0
