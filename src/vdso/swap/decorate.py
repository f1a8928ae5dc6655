"""Functions and classes that run at another time: what vdso.travel() and vdso.freeze() are as decorators."""

import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

from vdso.errors import UsageError

Journey = Callable[[], AbstractContextManager[Any]]


def decorate(target: Any, journey: Journey) -> Any:
    """The target, each of whose calls is a journey of its own.

    A coroutine or a generator is on it from its first step to its end, also while it is suspended. A
    unittest.TestCase is on it from before its setUpClass to after its tearDownClass, another class during
    each of its public methods.
    """
    if isinstance(target, type):
        return _class(target, journey)
    if not callable(target):
        raise UsageError(f"neither a function nor a class: {target!r}", "")
    return _function(target, journey)


def _function(function: Any, journey: Journey) -> Any:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with journey():
                return await function(*args, **kwargs)

        return coroutine
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def asynchronous_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with journey():
                async for value in function(*args, **kwargs):
                    yield value

        return asynchronous_generator
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with journey():
                return (yield from function(*args, **kwargs))

        return generator

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with journey():
            return function(*args, **kwargs)

    return call


def _class(target: Any, journey: Journey) -> Any:
    unittest = sys.modules.get("unittest")
    if unittest is not None and issubclass(target, unittest.TestCase):
        return _test_case(target, journey)
    taken: set[str] = set()
    for base in target.__mro__[:-1]:
        for name, value in vars(base).items():
            if name.startswith("_") or name in taken:
                continue
            taken.add(name)
            if isinstance(value, (staticmethod, classmethod)):
                setattr(target, name, type(value)(_function(value.__func__, journey)))
            elif inspect.isfunction(value):
                setattr(target, name, _function(value, journey))
    return target


def _test_case(target: Any, journey: Journey) -> Any:
    set_up = target.setUpClass.__func__

    @functools.wraps(set_up)
    def set_up_class(cls: Any) -> Any:
        # A cleanup, not tearDownClass: that one is not called where setUpClass fails.
        here = journey()
        here.__enter__()
        cls.addClassCleanup(here.__exit__, None, None, None)
        return set_up(cls)

    target.setUpClass = classmethod(set_up_class)
    return target
