"""A trained run as a Hugging Face model: ``config.json`` and ``model.safetensors``, with equal logits.

::

    AutoModelForCausalLM.from_pretrained("d512-135M")      # a Qwen3ForCausalLM, in fp32

What is one matrix here for speed (queries, keys and values; gate and up-projection) is taken apart again, and muP's
factor of the logits goes into the last norm's scale. Nothing else is changed. A model whose documents were masked from
each other is to be given one document at a time: the format has no place for such a mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isoflop.errors import InputError, MissingExtraError
from isoflop.flops import Shape
from isoflop.planning.runs import Run, trainable
from isoflop.store import StudyDirectory, replacing, write_json
from isoflop.training import checkpoints
from isoflop.training.checkpoints import Checkpoint
from isoflop.training.model import NORM_EPSILON, ROPE_BASE

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def export(study: StudyDirectory, run_id: str, out: Path) -> Checkpoint:
    """Write the newest weights of a run to the folder `out`; returns the checkpoint that they are from.

    Of a run that is done these are its final ones, where the study kept them; of another, those of its newest
    checkpoint.

    Raises
    ------
    InputError
        If the run has no weights on disk, `out` has a model already, or the model's MLP is plain, which Qwen3 is not.
    CorruptFileError
        If the weights are not this run's.
    """
    run = study.load_run(run_id)
    if (out / CONFIG).exists():
        raise InputError(f"--out must be a folder without a model, but {out} has one")
    config = configuration(run)
    place = study.run(run_id)
    checkpoint = checkpoints.load_newest(place.weights, run_id) or checkpoints.load_newest(place.checkpoints, run_id)
    if checkpoint is None:
        raise InputError(
            f"a run must have weights on disk to be exported, but {run_id} has none (training.keep_weights keeps "
            "those of runs that are trained from then on)"
        )
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise MissingExtraError("safetensors", "train") from None
    with replacing(out / WEIGHTS) as temporary:
        save_file(named_weights(run, checkpoint.model), temporary, metadata={"format": "pt"})
    write_json(out / CONFIG, config)
    return checkpoint


def configuration(run: Run) -> dict[str, Any]:
    """``config.json``; `InputError` where the model is no Qwen3."""
    shape = trainable(run)
    if shape.mlp != "gated":
        raise InputError(f"a model must have a gated MLP to be exported as Qwen3, but got {shape.mlp!r}")
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_mlp,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": shape.sequence_length,
        "initializer_range": run.initial_scale,
        "rms_norm_eps": NORM_EPSILON,
        "tie_word_embeddings": shape.tied_head,
        # Read by transformers 4; its version 5 makes rope_parameters of it.
        "rope_theta": ROPE_BASE,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "torch_dtype": "float32",
    }


def named_weights(run: Run, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """`Decoder`'s weights under Qwen3's names."""
    shape = trainable(run)
    factor = run.mup_width / shape.d_model if run.mup_width else 1.0
    found = {
        "model.embed_tokens.weight": weights["embedding.weight"],
        "model.norm.weight": weights["norm.weight"] * factor,
    }
    if not shape.tied_head:
        found["lm_head.weight"] = weights["head.weight"]
    for layer in range(shape.n_layers):
        prefix = f"blocks.{layer}."
        of = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        found |= {f"model.layers.{layer}.{name}": value for name, value in _block(shape, of).items()}
    return {name: value.contiguous() for name, value in found.items()}


def _block(shape: Shape, of: dict[str, Tensor]) -> dict[str, Tensor]:
    sizes = [heads * shape.head_size for heads in (shape.n_heads, shape.n_kv_heads, shape.n_kv_heads)]
    q, k, v = torch.split(of["attention.qkv.weight"], sizes)
    gate, up = torch.split(of["mlp.gate_up.weight"], shape.d_mlp)
    return {
        "input_layernorm.weight": of["attention_norm.weight"],
        "self_attn.q_proj.weight": q,
        "self_attn.k_proj.weight": k,
        "self_attn.v_proj.weight": v,
        "self_attn.q_norm.weight": of["attention.qk_norm"][0],
        "self_attn.k_norm.weight": of["attention.qk_norm"][1],
        "self_attn.o_proj.weight": of["attention.out.weight"],
        "post_attention_layernorm.weight": of["mlp_norm.weight"],
        "mlp.gate_proj.weight": gate,
        "mlp.up_proj.weight": up,
        "mlp.down_proj.weight": of["mlp.down.weight"],
    }
