"""Where things lie, told in three ways for the kernels of the table, and what is refused."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdso.errors import BadBtf, BadImage, VvarUnproven
from vdso.kernel import layout
from vdso.kernel.btf import Btf

VERSIONS = ("5.10", "6.9", "6.12", "6.16", "6.18")
MACHINE = layout.MACHINES["x86-64"]
ImageOf = Callable[..., Any]


def find(kernel: Any, image: Any, method: str | None = None, **more: Any) -> layout.Layout:
    types = more.pop("types", None) or (lambda: Btf(kernel.types()))
    return layout.find(image, kernel.before, kernel.vvar_bytes, method, types=types)[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_all_three_agree(kernels: Any, image_of: ImageOf, version: str) -> None:
    kernel = kernels[version]
    image = image_of(kernel)
    found = [find(kernel, image, method) for method in layout.METHODS]
    assert [one.method for one in found] == list(layout.METHODS)
    for one in found:
        assert [one.differences(other) for other in found] == [[]] * 3
        assert (one.clocks, one.stride, one.bases) == (kernel.clocks, kernel.stride, kernel.bases)
        assert (one.time_page, one.namespace_page, one.rng) == (0, kernel.namespace_page, kernel.rng)
        assert one.max_cycles == (16 if kernel.bases == 40 else None)
        assert one.modes[1] == "tsc"
        assert one.modes[0x7FFFFFFF] == "timens"
        assert "max" not in one.modes.values()
    tail = kernel.clocks + kernel.bases + 192 if kernel.tail is None else kernel.tail
    assert (found[0].timezone, found[0].hrtimer_res) == (tail, tail + 8)


def test_differences(kernels: Any, image_of: ImageOf) -> None:
    kernel = kernels["6.18"]
    found = find(kernel, image_of(kernel), "table")
    other = dataclasses.replace(found, method="code", stride=248, rng=None, timezone=5)
    assert found.differences(other) == ["stride"]


# ---- one way, then the next ----


def nothing() -> Btf:
    raise BadBtf("/sys/kernel/btf/vmlinux: no such file")


def test_the_next_way_and_why(kernels: Any, image_of: ImageOf) -> None:
    kernel = kernels["6.18"]
    found, refused = layout.find(image_of(kernel), kernel.before, kernel.vvar_bytes, types=nothing)
    assert found.method == "code"
    assert refused == {"btf": "/sys/kernel/btf/vmlinux: no such file"}
    image = image_of(kernel, __vdso_time="call page\nret")
    found, refused = layout.find(image, kernel.before, kernel.vvar_bytes, types=nothing)
    assert found.method == "table"
    assert list(refused) == ["btf", "code"]


def test_no_way_is_left(kernels: Any, image_of: ImageOf) -> None:
    kernel = dataclasses.replace(kernels["6.18"], version=0x060D00)
    image = image_of(kernel, __vdso_time="call page\nret")
    with pytest.raises(
        VvarUnproven, match=r"by btf: .*; by code: .*; by table: no row for Linux 6\.13"
    ) as caught:
        find(kernel, image, types=nothing)
    assert caught.value.proof is None
    assert caught.value.exit_code == 1
    for method in ("btf", "code", "table"):
        with pytest.raises(VvarUnproven, match=f"by {method}: "):
            find(kernel, image, method, types=nothing)


def test_another_architecture(kernels: Any) -> None:
    image = SimpleNamespace(machine="s390x", version_note=0x061000)
    with pytest.raises(VvarUnproven, match="proven on s390x"):
        find(kernels["6.16"], image)


# ---- by the types ----


@pytest.mark.parametrize("version", ["6.12", "6.18"])
@pytest.mark.parametrize(
    "member",
    ["seq", "clock_mode", "cycle_last", "mask", "mult", "shift", "basetime", "tz_minuteswest", "hrtimer_res"],
)
def test_a_member_that_is_not_there(kernels: Any, image_of: ImageOf, version: str, member: str) -> None:
    kernel = kernels[version]
    with pytest.raises(VvarUnproven, match=f"has no {member}"):
        find(kernel, image_of(kernel), "btf", types=lambda: Btf(kernel.types(without=member)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("vdso_clock", "neither"),
        ("vdso_time_data", "neither"),
        ("vdso_pages", "neither"),
        ("vdso_clock_mode", "no enum vdso_clock_mode"),
        ("clock_data", "has no clock_data"),
        ("VDSO_TIMENS_PAGE_OFFSET", "has no VDSO_TIMENS_PAGE_OFFSET"),
        ("VDSO_RNG_PAGE_OFFSET", "has no VDSO_RNG_PAGE_OFFSET"),
        ("is_ready", "has no is_ready"),
    ],
)
def test_a_type_that_is_not_there(kernels: Any, image_of: ImageOf, name: str, why: str) -> None:
    kernel = kernels["6.18"]
    with pytest.raises(VvarUnproven, match=why):
        find(kernel, image_of(kernel), "btf", types=lambda: Btf(kernel.types(without=name)))


def test_a_kernel_without_random_data(kernels: Any, image_of: ImageOf) -> None:
    kernel = dataclasses.replace(kernels["6.16"], rng=None)
    image = image_of(kernel)
    assert find(kernel, image, "btf").rng is None
    assert find(kernel, image, "code").rng is None


def test_types_and_code_that_contradict_each_other(kernels: Any, image_of: ImageOf) -> None:
    """Before 6.15 the types do not say where the page's clocks begin."""
    kernel = kernels["6.12"]
    image = image_of(kernels["6.9"])
    with pytest.raises(VvarUnproven, match="contradict each other in"):
        find(kernel, image, "btf")


# ---- by the code ----


def test_an_image_that_lies(kernels: Any, image_of: ImageOf) -> None:
    def outside(_function: Any) -> bytes:
        raise BadImage("the code of __vdso_time lies outside")

    kernel = kernels["6.16"]
    image = image_of(kernel)
    image.code = outside
    found, refused = layout.find(image, kernel.before, kernel.vvar_bytes, types=nothing)
    assert found.method == "table"
    assert "lies outside" in refused["code"]


@pytest.mark.parametrize(
    ("functions", "why"),
    [
        ({"__vdso_time": "mov page+44(%rip), %rax\nret"}, "as no kernel known does"),
        ({"__vdso_clock_gettime": "ret"}, "where the second clock is"),
        (
            {"__vdso_clock_gettime": "mov 232(%rax), %rdx\nmov 248(%rax), %rdx\nret"},
            "where the second clock is",
        ),
        (
            {"__vdso_time": "cmpl $0x7fffffff, page+8(%rip)\nje 1f\n1: mov page+40(%rip), %rax\nret"},
            "as no kernel known",
        ),
        (
            {
                "__vdso_time": "cmpl $0x7fffffff, page+4(%rip)\nmov page+40(%rip), %rax\njne 1f\n"
                "mov page+4144(%rip), %rax\n1: ret"
            },
            "looks elsewhere",
        ),
    ],
)
def test_code_that_does_not_tell(
    kernels: Any, image_of: ImageOf, functions: dict[str, str], why: str
) -> None:
    kernel = kernels["6.16"]
    with pytest.raises(VvarUnproven, match=why):
        find(kernel, image_of(kernel, **functions), "code")


def test_code_without_time_namespaces(kernels: Any, image_of: ImageOf) -> None:
    kernel = kernels["6.16"]
    image = image_of(
        kernel,
        __vdso_time="mov page+40(%rip), %rax\nret",
        __vdso_clock_gettime="lea page+232(%rip), %rax\nret",
    )
    found = find(kernel, image, "code")
    assert found.namespace_page is None
    assert found.differences(find(kernel, image, "table")) == []


def test_a_function_that_is_not_there(kernels: Any, image_of: ImageOf) -> None:
    image = image_of(kernels["6.16"])
    image.lookup = {}.get
    with pytest.raises(VvarUnproven, match="the image has no __vdso_time"):
        find(kernels["6.16"], image, "code")


# ---- by the table ----


@pytest.mark.parametrize("note", [None, 0x050900, 0x060A00, 0x060B09, 0x060D00, 0x060F07, 0x041300])
def test_versions_without_a_row(note: int | None) -> None:
    with pytest.raises(VvarUnproven):
        layout.by_table(MACHINE, note)


@pytest.mark.parametrize(
    ("note", "stride"), [(0x050A00, 240), (0x0609FF, 240), (0x060C2A, 248), (0x070100, 232)]
)
def test_versions_with_one(note: int, stride: int) -> None:
    assert layout.by_table(MACHINE, note).stride == stride


# ---- what lies outside ----


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_page": 4},
        {"time_page": -1},
        {"namespace_page": 9},
        {"clocks": 3800},
        {"clocks": -8},
        {"stride": 100},
        {"stride": 4000},
        {"timezone": 4092},
        {"hrtimer_res": 4094},
        {"rng": 16384},
        {"rng": -16},
        {"rng_ready": 7},
        {"mode": 232},
        {"cycle_last": -8},
        {"max_cycles": 230},
        {"bases": 2000},
    ],
)
def test_outside_of_the_pages(kernels: Any, image_of: ImageOf, wrong: dict[str, int]) -> None:
    kernel = kernels["6.16"]
    found = find(kernel, image_of(kernel), "table")
    layout.within(found, kernel.vvar_bytes)
    with pytest.raises(VvarUnproven, match="lies outside"):
        layout.within(dataclasses.replace(found, **wrong), kernel.vvar_bytes)


@settings(max_examples=200, deadline=2000)
@given(st.data())
def test_mutated_types_are_a_layout_or_refused(kernels: Any, image_of: ImageOf, data: st.DataObject) -> None:
    kernel = kernels[data.draw(st.sampled_from(["6.12", "6.18"]))]
    mutated = bytearray(kernel.types())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(24, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = find(kernel, image_of(kernel), "btf", types=lambda: Btf(bytes(mutated)))
    except VvarUnproven:
        return
    assert found.clocks + found.stride + found.clock_bytes <= layout.PAGE_BYTES
