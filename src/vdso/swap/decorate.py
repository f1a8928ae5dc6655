"""Functions and classes that run at another time: what vdso.travel() and vdso.freeze() are as decorators."""

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

from vdso.errors import UsageError

Journey = Callable[[], AbstractContextManager[Any]]

# pytest's own names in a class. They take the class, or the object and the method that is tested, or not.
XUNIT = ("setup_class", "teardown_class", "setup_method", "teardown_method")


def decorate(target: Any, journey: Journey) -> Any:
    """The target, each of whose calls is a journey of its own.

    A coroutine or a generator is on it from its first step to its end, also while it is suspended. A
    unittest.TestCase is on it from before its setUpClass to after its tearDownClass, another class during
    each of its public methods.
    """
    if isinstance(target, type):
        return _class(target, journey)
    if isinstance(target, (staticmethod, classmethod)):
        return type(target)(_function(target.__func__, journey))
    if type(target).__name__ == "FixtureFunctionDefinition":  # since pytest 8.4
        raise UsageError("a pytest fixture, and no function any more", "write @pytest.fixture above it")
    if not callable(target):
        raise UsageError(f"neither a function nor a class: {target!r}", "")
    return _function(target, journey)


def _function(function: Any, journey: Journey) -> Any:
    if _is(inspect.iscoroutinefunction, function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with journey():
                return await function(*args, **kwargs)

        return coroutine
    if _is(inspect.isasyncgenfunction, function):

        @functools.wraps(function)
        async def asynchronous_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            with journey():
                inner = function(*args, **kwargs)
                try:
                    step = inner.asend(None)
                    while True:
                        try:
                            value = await step
                        except StopAsyncIteration:
                            return
                        try:
                            sent = yield value
                        except GeneratorExit:
                            raise
                        except BaseException as thrown:
                            step = inner.athrow(thrown)
                        else:
                            step = inner.asend(sent)
                finally:
                    await inner.aclose()

        return asynchronous_generator
    if _is(inspect.isgeneratorfunction, function):

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


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Also of an object that is called like one."""
    return kind(function) or kind(function.__call__)


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
            bound = isinstance(value, (staticmethod, classmethod))
            function = value.__func__ if bound else value
            if not inspect.isfunction(function):
                continue
            moved = _function(function, journey)
            if name in XUNIT:
                moved = _with_arity(moved, function)
            setattr(target, name, type(value)(moved) if bound else moved)
    return target


def _with_arity(moved: Any, function: Any) -> Any:
    """For who counts the arguments of the code itself, as pytest does before it calls these methods."""
    match function.__code__.co_argcount:
        case 1:
            return functools.wraps(moved)(lambda this: moved(this))
        case 2:
            return functools.wraps(moved)(lambda this, which: moved(this, which))
    return moved


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
