"""The built-in datasets by name; the default account has some from its first day, and the others once it asks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from sandbox.accounts import Account
from sandbox.catalog import add_dataset, find_dataset
from sandbox.core import Sandbox
from sandbox.datasets import LabelledImage
from sandbox.digits import digit_scenes, digits
from sandbox.roadsigns import road_signs
from sandbox.store import Row

BuiltIn = Literal["road-signs", "road-signs-classes", "digits", "digits-scenes"]
BUILT_IN: Mapping[BuiltIn, Callable[..., list[LabelledImage]]] = {
    "road-signs": road_signs,
    "road-signs-classes": partial(road_signs, single=True),
    "digits": digits,
    "digits-scenes": digit_scenes,
}
"""How each is made; all take `count`, `seed` and `size`."""
AT_FIRST_START: tuple[BuiltIn, ...] = ("road-signs", "road-signs-classes")
"""Made with the default account; the others wait for scikit-learn, which a first start must not."""
DEFAULT_KEY_FILE = "default-key"
"""The file of a home that holds its default account's key."""


def generate(kind: BuiltIn, **choices: int | None) -> list[LabelledImage]:
    """Make the images of a built-in dataset; a choice that is None is left to it.

    Raises:
        DataError: More images are asked for than there are, or scikit-learn is not installed.
    """
    return BUILT_IN[kind](**{name: value for name, value in choices.items() if value is not None})


def open_dataset(sandbox: Sandbox, account: Account, ref: str) -> Row | None:
    """Return a dataset by id or name; a built-in one that the default account has not yet is made first.

    Raises:
        DataError: It cannot be made on this machine.
    """
    with sandbox.store.read() as tx:
        known = find_dataset(tx, account, ref)
    kind = next((name for name in BUILT_IN if name == ref), None)
    if known is not None or kind is None or not _is_default(sandbox, account):
        return known
    with sandbox.generating:
        with sandbox.store.read() as tx:  # another request may have made it meanwhile
            known = find_dataset(tx, account, ref)
        return known or add_dataset(sandbox, account, kind, generate(kind))


def _is_default(sandbox: Sandbox, account: Account) -> bool:
    path = sandbox.home / DEFAULT_KEY_FILE
    return path.is_file() and path.read_text(encoding="utf-8") == account.api_key
