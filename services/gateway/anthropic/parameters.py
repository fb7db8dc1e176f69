"""Parameters of the Messages API that are no fields of our request models."""

from services.gateway.http.parameters import Parameters

_CACHE = "the prefix cache finds by content"
COUNT = Parameters(
    ignored={
        "cache_control": _CACHE,
        "context_management": "no edit is applied: the conversation is read as it was sent",
        "betas": "fields say what is wanted",
        "user_profile_id": "tenants are keys",
        "workspace_id": "tenants are keys",
    },
    refused={"mcp_servers": ([],), "speed": ("standard",)},
)
MESSAGES = Parameters(
    ignored={
        **COUNT.ignored,
        "metadata": "nothing is stored",
        "service_tier": "there is one tier",
        "inference_geo": "the machines are the team's own",
        "diagnostics": _CACHE,
    },
    refused={**COUNT.refused, "container": ()},
)
