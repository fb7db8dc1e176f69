"""All contracts, for tests that hold for each."""

import importlib
import pkgutil

import shared.contracts
from shared.contracts.base import Contract

MODULES = [
    importlib.import_module(f"shared.contracts.{module.name}")
    for module in pkgutil.iter_modules(shared.contracts.__path__)
]
CONTRACTS = sorted(
    {
        value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Contract) and value is not Contract
    },
    key=lambda contract: contract.__name__,
)
