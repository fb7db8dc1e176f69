"""Parameters of Ollama's API that are no fields of our request models."""

from services.gateway.http.parameters import Parameters

_DEPLOYMENT = "of the deployment"
_LOADED = "a deployment stays loaded"
_WHOLE = "nothing is shortened: a prompt that is too long is an error"
_IGNORED = {
    **dict.fromkeys(
        [
            *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv", "num_gqa"),
            *("use_mmap", "use_mlock", "vocab_only", "logits_all", "embedding_only", "draft_num_predict"),
            *("rope_frequency_base", "rope_frequency_scale"),
        ],
        _DEPLOYMENT,
    ),
    "num_keep": _WHOLE,
    "repeat_last_n": "repeat_penalty is over prompt and answer",
    "penalize_newline": "repeat_penalty is over all tokens",
    "mirostat_tau": "of mirostat",
    "mirostat_eta": "of mirostat",
}
OPTIONS = Parameters(
    ignored={f"options.{name}": why for name, why in _IGNORED.items()},
    refused={"options.mirostat": (0,), "options.tfs_z": (1,), "options.typical_p": (1,)},
)
"""Of `options`."""
CHAT = Parameters(
    ignored={"keep_alive": _LOADED, "truncate": _WHOLE, "shift": _WHOLE, **OPTIONS.ignored},
    refused={"_debug_render_only": (False,), **OPTIONS.refused},
)
GENERATE = Parameters(
    ignored=CHAT.ignored,
    refused={
        **CHAT.refused,
        "suffix": ("",),
        "template": ("",),
        "context": ([],),
        "images": ([],),
        "width": (0,),
        "height": (0,),
        "steps": (0,),
    },
)
EMBED = Parameters(ignored={"keep_alive": _LOADED, "options": _DEPLOYMENT})
SHOW = Parameters(
    ignored={"verbose": "there is no more to show", "name": "the older name of model"},
    refused={"system": ("",), "template": ("",), "options": ({},)},
)
