# SPDX-License-Identifier: Apache-2.0
"""Keys of other trainers that mean nothing here, each with what there is instead.

The names are those in the config definitions of lora-scripts, kohya's sd-scripts, LLaMA-Factory, axolotl, TRL and transformers'
TrainingArguments. Keys that mean the same as one of ours are aliases at that key's field, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..explanations import plain

YES, NO = ("true", "1", "yes", "on", "y", "t"), ("false", "0", "no", "off", "n", "f")  # as pydantic reads them


@dataclass(frozen=True)
class Elsewhere:
    """Some keys with one answer.

    Attributes:
        names: the keys, with spaces between; ``galore_*`` stands for all that begin like that.
        description: what there is instead, as a sentence.
        unless: the values that stop a run when they are not among these: what is listed asks for nothing that is not so here. ``None``: the
            keys change nothing in what is learned, whatever they say.
    """

    names: str
    description: str
    unless: str | None = ""

    def harmless(self, value: Any) -> bool:
        """Whether the line may stand there with a note. One without a value always may."""
        if self.unless is None or value is None or value == "" or value == []:
            return True
        said, listed = plain(value).strip("'").casefold(), self.unless.split()
        return said in listed or any(word in listed and said in ways for word, ways in (("true", YES), ("false", NO)))


_OFF = "false 0 no none off"

_ROWS = (
    # --- what changes nothing in what is learned: a note
    Elsewhere(
        "logging_steps logging_strategy logging_first_step logging_dir logging_nan_inf_filter log_level log_with log_prefix "
        "log_tracker_name "
        "log_tracker_config log_config log_on_each_node report_to run_name project plot_loss disable_tqdm use_tensorboard use_wandb "
        "wandb_api_key wandb_project wandb_entity wandb_watch wandb_name wandb_log_model wandb_run_name wandb_run_id use_swanlab "
        "swanlab_project swanlab_run_name swanlab_mode include_num_input_tokens_seen include_tokens_per_second include_tkps "
        "print_param_status training_comment ",
        description="Every step is logged in the run's folder, with a curve and for TensorBoard; nothing is sent anywhere.",
        unless=None,
    ),
    Elsewhere(
        "preprocessing_num_workers preprocessing_batch_size dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
        "dataloader_prefetch_factor dataset_num_proc dataset_processes dataset_prepared_path max_data_loader_n_workers "
        "persistent_data_loader_workers overwrite_cache tokenized_path cache_latents cache_latents_to_disk cache_text_encoder_outputs "
        "cache_text_encoder_outputs_to_disk vae_batch_size text_encoder_batch_size skip_cache_check cache_info "
        "low_cpu_mem_usage lowram highvram "
        "ddp_timeout group_by_length pad_to_sequence_len pad_to_multiple_of padding_free use_fast_tokenizer tokenizer_use_fast "
        "cache_dir tokenizer_cache_dir offload_folder remove_unused_columns per_device_eval_batch_size eval_batch_size "
        "skip_memory_metrics use_cache hf_use_auth_token "
        "disable_mmap_load_safetensors dataset_keep_in_memory save_on_each_node torch_empty_cache_steps gc_steps "
        "use_reentrant_gc gradient_checkpointing_kwargs ",
        description="How data are read, cached and put together is decided by LoRAForge; it does not change what is learned.",
        unless=None,
    ),
    Elsewhere(
        "xformers sdpa mem_eff_attn flash_attn flash_attention flash_attention_2 attn_implementation sdp_attention xformers_attention "
        "flex_attention eager_attention use_unsloth use_unsloth_gc use_liger_kernel enable_liger_kernel use_kernels use_v1_kernels tf32 "
        "torch_compile torch_compile_backend torch_compile_mode torch_compile_options dynamo_backend lora_mlp_kernel lora_qkv_kernel "
        "lora_o_kernel lora_embedding_kernel liger_rope liger_rms_norm liger_glu_activation liger_layer_norm "
        "liger_fused_linear_cross_entropy",
        description="The fastest computation that gives the library's own figures is chosen by LoRAForge; `kernels: off` turns that off.",
        unless=None,
    ),
    Elsewhere(
        "trust_remote_code",
        description="No code that comes with a base is run. A base that needs it cannot be trained.",
        unless=None,
    ),
    Elsewhere(
        "model_type tokenizer_type processor_type model_train_type v2 is_llama_derived_model is_qwen_derived_model "
        "is_mistral_derived_model",
        description="What kind of model the base is, is read from its files.",
        unless=None,
    ),
    Elsewhere(
        "save_only_model save_state save_state_on_train_end",
        description="Every checkpoint holds what `--resume` needs.",
        unless=None,
    ),
    Elsewhere(
        "overwrite_output_dir",
        description="An earlier run in output_dir is never overwritten: `--fresh` renames it, `--resume` continues it.",
        unless=None,
    ),
    Elsewhere(
        "metric_for_best_model greater_is_better", description="The best step is the one with the lowest held-out loss.", unless=None
    ),
    # --- what would change something, but for the values that ask for what is so here
    Elsewhere(
        "do_train stage finetuning_type adapter rl network_module use_peft lora_task_type",
        description="LoRAForge trains adapters on examples and nothing else: no full training, preferences or OFT. "
        "The kind of adapter is set with lora_variant: lokr and loha too.",
        unless="true sft lora qlora causal_lm networks.lora locon lycoris.kohya",
    ),
    Elsewhere(
        "do_eval do_predict", description="What is held out and compared is set with eval_ratio and eval_answers.", unless="false true"
    ),
    Elsewhere(
        "template chat_template chat_template_jinja chat_template_path ",
        description="The base's own chat template is used; another one is set with prompt_template, see `loraforge list` for the names.",
        unless="tokenizer_default auto",
    ),
    Elsewhere(
        "dataset dataset_dir dataset_name datasets data_files data_dir train_file in_json",
        description="The folder with the examples is train_data_dir; one file in it is chosen with metadata_path.",
    ),
    Elsewhere(
        "eval_dataset test_datasets validation_file eval_on_each_dataset",
        description="What is held out is a share of the examples: eval_ratio.",
    ),
    Elsewhere(
        "save_n_epoch_ratio saves_per_epoch evals_per_epoch save_last_n_epochs save_last_n_steps "
        "save_last_n_epochs_state save_last_n_steps_state caption_dropout_every_n_epochs",
        description="A checkpoint is written every save_steps optimizer steps, or every save_epochs passes: `loraforge check` prints the "
        "steps of a run; divided by epochs they are one pass. save_total_limit says how many checkpoints are kept.",
        unless="0",
    ),
    Elsewhere(
        "eval_steps validate_every_n_steps sample_every_n_steps sample_every_n_epochs validate_every_n_epochs eval_delay eval_on_start "
        "sample_at_first",
        description="The held-out loss and the samples come with every checkpoint: save_steps, or save_epochs.",
        unless="false 0",
    ),
    Elsewhere(
        "packing neat_packing sample_packing eval_sample_packing eval_packing multipack_real_batches batch_flattening",
        description="batch_size counts rows. They are put together without padding where that gives the same figures, and never mixed.",
        unless=_OFF,
    ),
    Elsewhere(
        "train_on_inputs train_on_prompt mask_history",
        description="Answers are learned and the rest is read.",
        unless=_OFF,
    ),
    Elsewhere(
        "completion_only_loss assistant_only_loss ignore_pad_token_for_loss",
        description="Answers are learned and the rest is read.",
        unless="true",
    ),
    Elsewhere(
        "excess_length_strategy truncation_mode", description="Rows longer than max_seq_length are never cut: on_bad_row.", unless="raise"
    ),
    Elsewhere("max_samples ", description="Every row is used: put fewer into the folder, or set max_steps."),
    Elsewhere(
        "resume resume_from_checkpoint auto_resume_from_checkpoints resume_from_huggingface",
        description="A run is continued with `loraforge train ... --resume`, from the newest checkpoint in output_dir.",
        unless=_OFF,
    ),
    Elsewhere(
        "base_weights base_weights_multiplier ",
        description="Adapters are added to a base before, not in training: loraforge lora merge FILE:0.8 --into BASE --out FOLDER.",
        unless=_OFF,
    ),
    Elsewhere(
        "dim_from_weights ",
        description="Where lora_rank is not set it is taken from the file that init_from_adapter names.",
        unless=None,
    ),
    Elsewhere(
        "network_dropout",
        description="In sd-scripts it acts between the two matrices of the LoRA; lora_dropout acts on its input. Set that, "
        "or leave it out.",
        unless="0",
    ),
    Elsewhere(
        "network_args network_args_custom ",
        description="They have keys of their own: conv_rank for conv_dim, lora_dropout for dropout, lora_plus_ratio for loraplus_lr_ratio, "
        "lora_variant for algo, lokr_factor for factor, block_ranks for block_dims.",
    ),
    Elsewhere(
        "block_dims conv_block_dims block_alphas conv_block_alphas lora_rank_pattern rank_pattern lora_alpha_pattern alpha_pattern "
        "layers_to_transform peft_layers_to_transform layers_pattern",
        description="Ranks of parts of the base are set with block_ranks, by the names of the layers: [down_blocks.2=16, mid_block=32, "
        "layers.0-15=8]; 0 leaves a part out. The scale is that of the other layers: lora_alpha / lora_rank.",
        unless="{}",
    ),
    Elsewhere("conv_alpha", description="The scale of convolutions is that of the other layers: lora_alpha / lora_rank."),
    Elsewhere(
        "network_train_text_encoder_only train_text_encoder_only",
        description="That is train_unet: false and train_text_encoder: true.",
        unless=_OFF,
    ),
    Elsewhere(
        "stop_text_encoder_training", description="The text encoder is trained to the end, or not: train_text_encoder.", unless="0 -1"
    ),
    Elsewhere(
        "lr_scheduler_kwargs lr_scheduler_args",
        description="They have keys of their own: lr_scheduler_cycles, lr_scheduler_power and lr_scheduler_decay.",
        unless="{}",
    ),
    Elsewhere(
        "cosine_min_lr_ratio lr_scheduler_min_lr_ratio lr_scheduler_timescale",
        description="A rate that falls, falls to 0.",
        unless="0",
    ),
    Elsewhere(
        "adam_epsilon adam_beta1 adam_beta2 prodigy_d0 prodigy_d_coef",
        description="The optimizer's own settings are written as optimizer_args: [betas=0.9,0.99, eps=1e-8, d_coef=2].",
        unless="1e-08 0.9 0.999",
    ),
    Elsewhere("optim_target_modules", description="All parameters of the adapter have the same optimizer.", unless=_OFF),
    Elsewhere(
        "load_in_8bit gptq fp8",
        description="A base is loaded as precision says: bf16, fp16, fp32, 4bit, or fp8 for pictures.",
        unless=_OFF,
    ),
    Elsewhere(
        "pure_bf16 full_bf16 full_fp16 bf16_full_eval fp16_full_eval no_half_vae bfloat16 float16 dtype torch_dtype "
        "infer_dtype upcast_layernorm",
        description="The base has the precision that `precision` says, and the adapter is trained in 32 bits.",
        unless=f"{_OFF} auto",
    ),
    Elsewhere(
        "quantization_method quantization_type bnb_4bit_quant_type",
        description="precision: 4bit is QLoRA: bitsandbytes, nf4.",
        unless="bnb nf4",
    ),
    Elsewhere(
        "double_quantization use_bnb_nested_quant bnb_4bit_use_double_quant",
        description="precision: 4bit is QLoRA with double quantisation.",
        unless="true",
    ),
    Elsewhere("save_model_as", description="Files are safetensors: a pickle can run code.", unless="safetensors"),
    Elsewhere("save_safetensors use_safetensors", description="Files are safetensors: a pickle can run code.", unless="true"),
    Elsewhere("flip_aug_p flip_p", description="flip: true mirrors half of the pictures; there is no other share.", unless=_OFF),
    Elsewhere("enable_bucket", description="Pictures always go into buckets by their shape.", unless="true 1"),
    Elsewhere(
        "min_bucket_reso max_bucket_reso",
        description="How long a picture's sides may be follows from resolution and bucket_max_ratio.",
    ),
    Elsewhere(
        "prompt_file positive_prompts negative_prompts randomly_choice_prompt enable_preview sample_sampler sample_width sample_height",
        description="What is drawn at every checkpoint is set with sample_prompts: [a prompt, another one].",
        unless=_OFF,
    ),
    Elsewhere(
        "push_to_hub hub_model_id hub_strategy hub_token hub_private_repo push_dataset_to_hub huggingface_repo_id huggingface_repo_type "
        "huggingface_path_in_repo huggingface_token huggingface_repo_visibility save_state_to_huggingface async_upload",
        description="Nothing is uploaded by LoRAForge.",
        unless=_OFF,
    ),
    Elsewhere(
        "deepspeed fsdp fsdp_config multi_gpu gpu_ids device_map ddp_backend local_rank",
        description="Several GPUs are used with `accelerate launch -m loraforge train ...`.",
        unless=f"{_OFF} auto []",
    ),
    Elsewhere(
        "strict bias fan_in_fan_out lora_fan_in_fan_out shuffle_dataset",
        description="There is nothing to set there.",
        unless="none false true",
    ),
    Elsewhere(
        "masked_loss",
        description="Masks count in the loss as soon as they lie in the folder; mask: off leaves them out.",
        unless="true",
    ),
    Elsewhere(
        "alpha_mask",
        description="mask: alpha takes the transparency of the pictures as their masks.",
        unless=_OFF,
    ),
    Elsewhere(
        "loraplus_lr_embedding loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio",
        description="There is one ratio for all parts of a base: lora_plus_ratio.",
        unless="1",
    ),
    Elsewhere(
        "dataset_config class_tokens is_reg image_dir",
        description="Folders of several kinds lie in the one that train_data_dir names; a concept.yaml in each says its repeats, "
        "resolution, trigger_word and caption, and whether it is a prior.",
        unless=_OFF,
    ),
    Elsewhere(
        "weighting_scheme timestep_sampling sigmoid_scale discrete_flow_shift logit_mean logit_std mode_scale",
        description="Which levels of noise are trained follows from the family of the base.",
        unless=_OFF,
    ),
    Elsewhere(
        "blocks_to_swap",
        description="For pictures, offload: blocks leaves weights of the denoiser in main memory, and offload_share says how many.",
        unless=_OFF,
    ),
    Elsewhere(
        "lora_modules_to_save modules_to_save additional_target lora_target_parameters target_parameters "
        "neftune_noise_alpha "
        "label_smoothing_factor loftq_config relora use_galore "
        "use_apollo use_badam resize_vocab add_tokens add_special_tokens special_tokens tokens rope_scaling shift_attn streaming "
        "vae color_aug face_crop_aug_range weighted_captions enable_wildcard caption_prefix caption_suffix "
        "secondary_separator token_warmup_min token_warmup_step "
        "adaptive_noise_scale noise_offset_random_strength "
        "scale_v_pred_loss_like_noise_pred scale_weight_norms "
        "caption_separator custom_attributes conditioning_data_dir dataset_class config_file "
        "dataset_repeats initial_epoch initial_step skip_until_initial_step validation_seed max_validation_steps resize_interpolation "
        "no_metadata output_config fused_backward_pass cpu_offload_checkpointing perlin_noise "
        "guidance_scale model_prediction_type v_pred_like_loss "
        "apply_t5_attn_mask t5xxl t5xxl_max_token_length train_t5xxl clip_l clip_g ae base_weights_multiplier parameterization "
        "controlnet_model_name_or_path max_new_tokens ddp_* support_* schedulefree_* optimizer_schedulefree_wrapper galore_* qgalore_* "
        "apollo_* badam_* ppo_* dpo_* kto_* orpo_* cpo_* simpo_* pref_* oft_* freeze_* ref_model* reward_model* "
        "kt_* vllm_* "
        "sglang_* profiler_* ray_* generation_* pissa_iter pissa_convert use_ray eval_num_beams eval_accumulation_steps "
        "eval_sequence_len eval_causal_lm_metrics adapter_folder base_model_config ld_alpha eot_tokens "
        "relora_* pose_* use_pose quantization qat hub_* "
        ""
        "dataset_shard* dataset_exact_deduplication deepcompile test_split_size "
        "down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold enable_block_weights enable_base_weight train_norm "
        "dylora_unit use_tucker use_cp use_conv_cp use_scalar bypass_mode rescaled constraint constrain unbalanced_factorization "
        "rank_dropout module_dropout ui_custom_params data_seed random_state "
        "auto_find_batch_size "
        "use_dft_loss enable_thinking preserve_thinking torchdistx_path",
        description="There is nothing like it here: take the line out.",
        unless=_OFF,
    ),
)

ELSEWHERE = {name: row for row in _ROWS for name in row.names.split()}


def elsewhere(key: str) -> Elsewhere | None:
    """What is said of a key; a name that ends in a star stands for all that begin like it."""
    prefixes = (f"{key[:length]}*" for length in range(len(key), 0, -1))
    return next((ELSEWHERE[name] for name in (key, *prefixes) if name in ELSEWHERE), None)
