"""Edit pipelines of the supported families, tiny, with random weights, built without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

VISION_TOKENS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LOUDER = 8
"""Random transformers hardly move an image: without this, tests of equality prove nothing."""


def build(name: str, folder: Path) -> Path:
    """Save the tiny pipeline of this name; the same weights every time."""
    torch.manual_seed(0)
    pipe = BUILDERS[name]()
    with torch.no_grad():
        if hasattr(pipe, "transformer"):
            pipe.transformer.proj_out.weight.mul_(LOUDER)
    pipe.save_pretrained(folder)
    return folder


def instruct_pix2pix() -> Any:
    """Stable Diffusion's shape, with the sampler that adds noise at every step."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        norm_num_groups=8,
        attention_head_dim=8,
    )
    scheduler = diffusers.EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    tokenizer = clip_tokenizer()
    return diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=image_vae(latent_channels=4),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def qwen_edit() -> Any:
    """Qwen-Image-Edit."""
    return diffusers.QwenImageEditPipeline(**qwen_parts())


def qwen_edit_plus() -> Any:
    """Qwen-Image-Edit-Plus as of 2509."""
    return diffusers.QwenImageEditPlusPipeline(**qwen_parts())


def qwen_edit_2511() -> Any:
    """Qwen-Image-Edit-Plus as of 2511."""
    return diffusers.QwenImageEditPlusPipeline(**qwen_parts(zero_cond_t=True))


def flux_kontext() -> Any:
    """FLUX.1 Kontext."""
    tokenizer = clip_tokenizer()
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(33, 127)]
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=True,
    )
    return diffusers.FluxKontextPipeline(
        scheduler=flow_scheduler(shift=3.0, base_shift=0.5, max_shift=1.15),
        vae=image_vae(
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.1159,
            scaling_factor=0.3611,
        ),
        text_encoder=clip_text(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(
            T5Config(
                vocab_size=len(pieces) + 8, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2
            )
        ),
        tokenizer_2=T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512),
        transformer=transformer,
    )


def flux2_klein() -> Any:
    """FLUX.2 Klein, not distilled: it takes guidance."""
    tokenizer = byte_tokenizer()
    text_encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=padded_length(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=27,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=1024,
        )
    )
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=128,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=32,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    return diffusers.Flux2KleinPipeline(
        scheduler=flow_scheduler(shift=3.0, base_shift=0.5, max_shift=1.15),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=False,
    )


def qwen_parts(**transformer_settings: Any) -> dict[str, Any]:
    """What both Qwen editors are made of."""
    tokenizer = byte_tokenizer()
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            patch_size=14,
            merge_size=2,
            temporal_patch_size=2,
            size={"shortest_edge": 28 * 28, "longest_edge": 12_845_056},
        ),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT,
    )
    return {
        "scheduler": flow_scheduler(
            shift=1.0,
            base_shift=0.5,
            max_shift=0.9,
            max_image_seq_len=8192,
            shift_terminal=0.02,
            time_shift_type="exponential",
        ),
        "vae": diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=16,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        "text_encoder": vision_language_model(tokenizer),
        "tokenizer": tokenizer,
        "processor": processor,
        "transformer": diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=64,
            out_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 6, 6),
            **transformer_settings,
        ),
    }


def vision_language_model(tokenizer: Any) -> Any:
    """Qwen2.5-VL with two layers."""
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": padded_length(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "mrope_section": [2, 3, 3],
            "rope_type": "default",
            "rope_theta": 1e6,
        },
        "pad_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|im_end|>"),
        "bos_token_id": token("<|endoftext|>"),
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def byte_tokenizer() -> Any:
    """Qwen's tokenizer over bytes, with one token per word of the pipelines' own templates, so
    that the fixed number of template tokens they cut off fits."""
    from diffusers.modular_pipelines.qwenimage import prompt_templates
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    templates = [
        text
        for name, text in vars(prompt_templates).items()
        if isinstance(text, str) and "TEMPLATE" in name
    ]
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    words.train_from_iterator([*templates, "Picture 1: Picture 2: user"] * 3, trainer)
    model = json.loads(words.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        additional_special_tokens=VISION_TOKENS,
        model_max_length=4096,
        chat_template=CHAT,
    )


def clip_tokenizer() -> Any:
    """CLIP's tokenizer over single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{byte}</w>" for byte in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def clip_text(tokenizer: Any) -> Any:
    """CLIP's text encoder with two layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def image_vae(**settings: Any) -> Any:
    """An autoencoder that shrinks eightfold."""
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **settings,
    )


def flow_scheduler(**settings: Any) -> Any:
    """The scheduler of every flow-matching editor."""
    defaults = {
        "num_train_timesteps": 1000,
        "use_dynamic_shifting": True,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
    }
    return diffusers.FlowMatchEulerDiscreteScheduler(**(defaults | settings))


def padded_length(tokenizer: Any) -> int:
    """A vocabulary's size, rounded up as the real models do."""
    return (len(tokenizer) + 63) // 64 * 64


BUILDERS: dict[str, Callable[[], Any]] = {
    "instruct_pix2pix": instruct_pix2pix,
    "qwen_edit": qwen_edit,
    "qwen_edit_plus": qwen_edit_plus,
    "qwen_edit_2511": qwen_edit_2511,
    "flux_kontext": flux_kontext,
    "flux2_klein": flux2_klein,
}
