"""What every public op promises of any arguments, as properties that hypothesis tries to break.

`contract` is the promise, `specs` and `strategies` draw what ops are given, the other modules have
a `Property` for each public name; `every` collects them.
"""
