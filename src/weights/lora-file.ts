/**
 * @file Reads LoRA files (Hu et al., arXiv 2106.09685): for each layer two low-rank matrices, in convolutions sometimes three.
 * Known are the names of kohya's sd-scripts and LyCORIS (`lora_down`, `lora_up`, `lora_mid`, `alpha`), of PEFT and today's
 * diffusers (`lora_A`, `lora_B`), and of earlier diffusers (`lora.down`, `to_q_lora.down`, `lora_linear_layer.down`).
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CheckpointError } from '../base/errors.js';
import { isJsonObject, type JsonObject, readJsonObject } from '../base/json.js';
import { readSafetensors } from '../formats/index.js';
import type { Tensor } from '../torch/index.js';
import { readTensorBin } from './weight-files.js';

/** What a LoRA adds to the weight of one layer: `scale` · up · mid · down. */
export interface LoraLayer {
  /** The layer's name in the file, without the names of the matrices. */
  name: string;
  /** [rank, in, …kernel], or [rank, in, 1, 1] where there is a `mid`. */
  down: Tensor;
  /** [out, rank], or [out, rank, 1, 1]. */
  up: Tensor;
  /** Of LyCORIS' convolutions, [rank, rank, …kernel]. */
  mid?: Tensor | undefined;
  /** alpha / rank */
  scale: number;
}

export interface LoraFile {
  layers: LoraLayer[];
  /** Keys that belong to no layer. */
  unknownKeys: string[];
  /** Every tensor of the file, those of the layers too. */
  tensors: Tensor[];
}

/** Kinds of files that are no plain LoRA, by parts of their tensors' names. */
const otherKinds: [pattern: RegExp, what: string][] = [
  [/\.(dora_scale|lora_magnitude_vector)/, 'a DoRA, whose weights have magnitudes of their own'],
  [/\.hada_w\d/, 'a LoHa of LyCORIS'],
  [/\.lokr_w\d/, 'a LoKr of LyCORIS'],
  [/\.(oft_(blocks|diag|[rR])|boft_)/, 'an OFT, which rotates weights'],
  [/\.(on_input|ia3_l)$/, 'an (IA)³'],
  [
    /\.(diff|diff_b|w_norm|b_norm|set_weight)$/,
    'one that has whole differences of weights beside low-rank ones',
  ],
  [/\.lora_[AB]\.(?:\w+\.)?bias$/, 'a LoRA with biases'],
];

const matrix =
  /^(.+?)(?:[._]lora(?:_linear_layer)?[._](down|up|mid)|\.lora_([AB])(?:\.(?!weight)\w+)?)\.weight$/;
const alphaName = /^(.+?)(?:[._]lora(?:_linear_layer)?)?\.alpha$/;

/**
 * Reads the layers of a LoRA, mapped where the file is safetensors.
 * @param path `.safetensors`, or else a torch file
 * @throws CheckpointError where the file cannot be read, is another kind of file, or a layer's matrices are not complete
 */
export function readLora(path: string): LoraFile {
  const { tensors, metadata } = path.endsWith('.safetensors')
    ? readSafetensors(path)
    : { tensors: readTensorBin(path, 'skip'), metadata: {} };
  const keys = [...tensors.keys()];
  for (const [pattern, what] of otherKinds) {
    const key = keys.find((one) => pattern.test(one));
    if (key !== undefined)
      throw new CheckpointError(
        `Expected a LoRA in ${path} but it is ${what}, which is not supported (${key}); use a plain LoRA`,
      );
  }
  const parts = new Map<string, Partial<Record<'down' | 'up' | 'mid' | 'alpha', Tensor>>>();
  const unknownKeys: string[] = [];
  const put = (name: string, part: 'down' | 'up' | 'mid' | 'alpha', tensor: Tensor): void => {
    parts.set(name, { ...parts.get(name), [part]: tensor });
  };
  for (const [key, tensor] of tensors) {
    const [, name, side, letter] = matrix.exec(key) ?? [];
    const [, ofAlpha] = alphaName.exec(key) ?? [];
    if (name !== undefined)
      put(name, (side as 'down' | 'up' | 'mid') ?? (letter === 'A' ? 'down' : 'up'), tensor);
    else if (ofAlpha !== undefined) put(ofAlpha, 'alpha', tensor);
    else unknownKeys.push(key);
  }
  const alphaOf = configuredAlphas(path, metadata);
  const layers = [...parts].map(([name, { down, up, mid, alpha }]): LoraLayer => {
    const missing = Object.entries({ down, up }).find(([, tensor]) => tensor === undefined)?.[0];
    if (down === undefined || up === undefined)
      throw new CheckpointError(
        `Expected both matrices of each layer of the LoRA ${path} but ${name} has no ${missing}; get the file again`,
      );
    const rank = down.shape[0] as number;
    const scale = alpha === undefined ? (alphaOf(name, rank) ?? 1) : alpha.item() / rank;
    return { name, down, up, mid, scale };
  });
  if (layers.length > 0) return { layers, unknownKeys, tensors: [...tensors.values()] };
  throw new CheckpointError(
    `Expected a LoRA in ${path} but its keys are ${keys.slice(0, 4).join(', ') || 'none'}${keys.length > 4 ? ', …' : ''}`,
  );
}

/**
 * Returns what scales layers whose file has no `alpha` tensors, by the configuration that diffusers puts into the metadata
 * (`lora_adapter_metadata`) or PEFT beside the file (adapter_config.json). Without one, alpha is the rank.
 */
function configuredAlphas(
  path: string,
  { lora_adapter_metadata: text }: Record<string, string>,
): (name: string, rank: number) => number | undefined {
  const beside = join(dirname(path), 'adapter_config.json');
  const config =
    text !== undefined
      ? parseConfig(text, path)
      : existsSync(beside)
        ? readJsonObject(beside, CheckpointError)
        : {};
  return (name, rank) => {
    const part = ['unet', 'text_encoder', 'text_encoder_2'].find(
      (one) => name.startsWith(`${one}.`) && `${one}.lora_alpha` in config,
    );
    const of = (key: string): unknown => config[part === undefined ? key : `${part}.${key}`];
    const patterns = of('alpha_pattern');
    const pattern = Object.entries(isJsonObject(patterns) ? patterns : {}).find(
      ([layer]) => name === layer || name.endsWith(`.${layer}`),
    );
    const alpha = pattern?.[1] ?? of('lora_alpha');
    if (typeof alpha !== 'number') return undefined;
    return alpha / (of('use_rslora') === true ? Math.sqrt(rank) : rank);
  };
}

function parseConfig(text: string, path: string): JsonObject {
  try {
    const config: unknown = JSON.parse(text);
    if (isJsonObject(config)) return config;
  } catch {
    // Told below.
  }
  throw new CheckpointError(
    `Expected a JSON object in lora_adapter_metadata of ${path} but received ${text.slice(0, 80)}`,
  );
}
