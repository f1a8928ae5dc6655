"""Names as their programmers wrote them."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdso.measure.callers import demangle

NAMES = {
    "main": "main",
    "clock_gettime@@GLIBC_2.17": "clock_gettime",
    "time@GLIBC_2.2.5": "time",
    "_ZNSt6chrono3_V212system_clock3nowEv": "std::chrono::_V2::system_clock::now()",
    "_ZN3app5TimerIiE4readEv.isra.0": "app::Timer<int>::read() (.isra.0)",
    "_ZN3std4time7Instant3now17h0123456789abcdefE": "std::time::Instant::now",
    "_ZN3std4time7Instant3now17h0123456789abcdefE.llvm.1234ABCD": "std::time::Instant::now",
    "_RNvMNtCs1_3std4timeNtB2_7Instant3now": "<std::time::Instant>::now",
    "_ZN4core3ops8function6FnOnce40call_once$u7b$$u7b$vtable.shim$u7d$$u7d$17h0123456789abcdefE": (
        "core::ops::function::FnOnce::call_once{{vtable.shim}}"
    ),
    "_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE": (
        "<Test + 'static as foo::Bar<Test>>::bar"
    ),
    "_ZN3std2rt10lang_start28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE": (
        "std::rt::lang_start::{{closure}}"
    ),
    "_Znonsense": "_Znonsense",
    "_Rnonsense": "_Rnonsense",
    "main.(*meter).read": "main.(*meter).read",
    "_Z" + "P" * 5000: "_Z" + "P" * 5000,
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    assert demangle.demangled(name) == NAMES[name]


BRIEF = {
    "main": "main",
    "main.(*meter).read": "main.(*meter).read",
    "c::Meter<T>::elapsed": "c::Meter<T>::elapsed",
    "<Test + 'static as foo::Bar<Test>>::bar": "<Test + 'static as foo::Bar<Test>>::bar",
    "std::rt::lang_start::<()>::{closure#0}": "std::rt::lang_start::<()>::{closure#0}",
    "std::chrono::_V2::system_clock::now()": "std::chrono::_V2::system_clock::now",
    "app::Timer<std::vector<int>>::read() (.isra.0)": "app::Timer<std::vector<int>>::read (.isra.0)",
    "app::Timer<void (*)(int)>::read() const": "app::Timer<void (*)(int)>::read",
    "bool app::(anonymous namespace)::all<A, B>(C<D>*)": "app::(anonymous namespace)::all<A, B>",
    "(anonymous namespace)::f(int)": "(anonymous namespace)::f",
    "app::F::operator()(int) const": "app::F::operator()",
    "std::ostream& operator<< <char>(A&)": "operator<< <char>",
    "app::operator<(A const&, B const&)": "app::operator<",
    "A::operator bool() const": "A::operator bool",
    "operator new(unsigned long)": "operator new",
    "A::operator->()": "A::operator->",
    "main::{lambda(int)#1}::operator()(int) const": "main::{lambda(int)#1}::operator()",
    "v8::internal::MaybeHandle<v8::internal::Object> v8::internal::(anonymous namespace)::HandleApiCallHelper"
    "<false>(v8::internal::Isolate*)": "v8::internal::(anonymous namespace)::HandleApiCallHelper<false>",
    "app::Longer<std::map<std::string, std::vector<std::pair<int, int>>>>::reads_the_clock(long)": (
        "app::Longer<...>::reads_the_clock"
    ),
}


@pytest.mark.parametrize("name", BRIEF)
def test_names_for_a_line(name: str) -> None:
    assert demangle.brief(name) == BRIEF[name]


@settings(max_examples=300, deadline=None)
@given(st.text("ab:<>() *{}#,.lambdoper~\ue000\ue001", max_size=40))
def test_any_name_can_be_brief(name: str) -> None:
    assert isinstance(demangle.brief(name), str)


def test_without_the_library_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycxxfilt", None)
    library = demangle.library
    library.cache_clear()
    demangle.demangled.cache_clear()
    try:
        assert demangle.demangled("_ZN3app4readEv") == "_ZN3app4readEv"
    finally:
        library.cache_clear()
        demangle.demangled.cache_clear()


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["_Z", "_ZN", "_R", "_ZN3std17h0123456789abcdefE"]), st.text(max_size=80))
def test_any_name_gives_a_name(start: str, rest: str) -> None:
    assert isinstance(demangle.demangled(start + rest), str)
