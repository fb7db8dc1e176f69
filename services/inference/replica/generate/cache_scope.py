"""Who shares what a replica has computed earlier: blocks of the prefix cache and compiled grammars."""

from shared.contracts.replica import Generate


def cache_scope(request: Generate, *, shared: bool) -> str:
    """Requests share only with those of the same scope.

    Args:
        request: Has the tenant, and a `cache_salt` of the client's, which narrows the scope further.
        shared: Whether tenants share with one another (`ServingOptions.share_cache`).
    """
    tenant = "" if shared else request.tenant
    return f"{len(tenant)}:{tenant}{request.cache_salt}"
