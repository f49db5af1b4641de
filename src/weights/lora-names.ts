/**
 * @file Finds the layer of a model that a LoRA's name means. Names are compared with `_` for `.`, as kohya's sd-scripts
 * (`networks/lora.py`) write them, so that one table has all spellings: `lora_unet_` and diffusers' `unet.`, in SDXL also the
 * blocks of the original code (`input_blocks_4_1_…`).
 */

/** The parts of a model that LoRAs change. */
export type LoraPart = 'unet' | 'text_encoder' | 'text_encoder_2';

/** How the names of a part start; '' is the form of PEFT and of diffusers' first scripts, which know one model. */
const prefixes: Record<LoraPart, readonly string[]> = {
  unet: ['lora_unet_', 'unet_', 'lycoris_', 'diffusion_model_', ''],
  text_encoder: ['lora_te_', 'lora_te1_', 'text_encoder_', ''],
  text_encoder_2: ['lora_te2_', 'text_encoder_2_'],
};

/**
 * Returns the weights of a part by every name that a LoRA may have for their layers.
 * @param keys of the part's weights, such as 'mid_block.attentions.0.proj_in.weight', each with its other names
 */
export function loraNames(part: LoraPart, keys: ReadonlyMap<string, readonly string[]>): Map<string, string> {
  const names = new Map<string, string>();
  for (const [key, otherNames] of keys)
    for (const name of [key, ...otherNames])
      for (const prefix of prefixes[part]) names.set(prefix + flat(name.replace(/\.weight$/, '')), key);
  return names;
}

/** Returns the name of a LoRA's layer as in `loraNames`. */
export function flatLoraName(name: string): string {
  return (
    flat(name.replace(/^base_model\.model\./, '').replaceAll('.processor.', '.'))
      // Diffusers' first names for attention.
      .replace(/self_attn_to_(q|k|v)$/, 'self_attn_$1_proj')
      .replace(/self_attn_to_out$/, 'self_attn_out_proj')
      .replace(/_to_out$/, '_to_out_0')
  );
}

function flat(name: string): string {
  return name.replaceAll('.', '_');
}
