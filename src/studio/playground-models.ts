/** @file Finds what the playground can load in the studio's folders of models. Files are known by the names of their tensors. */
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

const MAX_DEPTH = 3;
/** Folders that are looked into. */
const MAX_FOLDERS = 2000;
/** A file of a whole model is not smaller. */
const MODEL_BYTES = 2 ** 29;
/** Of a file's header. */
const MAX_HEADER = 4 * 2 ** 20;
const MAX_KNOWN = 10_000;

const kinds = ['adapter', 'lora', 'controlnet', 'model', 'imageEncoder'] as const;
type Kind = (typeof kinds)[number];

/** Paths by what they are. */
export type FoundModels = Record<Kind, string[]>;

/** Names of tensors in safetensors files, as src/adapters/kinds.ts and src/weights know them. */
const byTensor: readonly [Kind, RegExp][] = [
  ['adapter', /"(ip_adapter\.\d+\.|image_proj\.)/],
  ['controlnet', /"[\w.]*(controlnet_cond_embedding\.|input_hint_block\.)/],
  ['lora', /"[\w.]+[._](lora(_linear_layer)?[._](down|up)|lora_[AB])\./],
];
/** Other files tell by their name only. */
const byName: readonly [Kind, RegExp][] = [
  ['adapter', /ip.?adapter.*\.bin$/i],
  ['controlnet', /control.*\.pth$/i],
  ['lora', /lora.*\.bin$/i],
];
/** The names that diffusers and PEFT give to a LoRA in a folder, which is then named instead of the file. */
const loraFile = /^(pytorch_lora_weights|adapter_model)\.(safetensors|bin)$/;

/** Kinds of files that have been looked into, by path, size and time of change. */
const known = new Map<string, Kind | undefined>();

/** Looks into a folder and those below. */
export async function findModels(root: string): Promise<FoundModels> {
  const found = Object.fromEntries(kinds.map((kind) => [kind, [] as string[]])) as FoundModels;
  let visited = 0;
  const visit = async (folder: string, depth: number): Promise<void> => {
    if (++visited > MAX_FOLDERS) return;
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    const has = (name: string): boolean => entries.some((entry) => entry.name === name);
    const isModel = has('unet') && has('vae');
    if (isModel) found.model.push(folder);
    const ofFolder = has('config.json') ? await kindOfFolder(folder) : undefined;
    if (ofFolder !== undefined) found[ofFolder].push(folder);
    for (const entry of entries) {
      const { name } = entry;
      const path = join(folder, name);
      const isPart = /^\.|^checkpoint-|^(unet|vae|scheduler)$/.test(name);
      if (entry.isDirectory() && depth < MAX_DEPTH && !isPart) await visit(path, depth + 1);
      // Beside a configuration are the weights of a folder that counts as a whole.
      if (!entry.isFile() || has('config.json')) continue;
      const kind = await kindOfFile(path, name);
      if (kind === 'lora' && loraFile.test(name)) found.lora.push(folder);
      else if (kind !== undefined && !(kind === 'model' && isModel)) found[kind].push(path);
    }
  };
  await visit(root, 0);
  return found;
}

/** Returns what the folder of one model holds. */
async function kindOfFolder(folder: string): Promise<Kind | undefined> {
  const config = await readFile(join(folder, 'config.json'), 'utf8').catch(() => '');
  if (/"_class_name":\s*"ControlNetModel"/.test(config)) return 'controlnet';
  // Text encoders have a configuration beside their weights too.
  const isEncoder = /image_encoder|vision|clip|dino|siglip/i.test(folder);
  return isEncoder && !/text_encoder|unet|vae/.test(folder) ? 'imageEncoder' : undefined;
}

async function kindOfFile(path: string, name: string): Promise<Kind | undefined> {
  if (!/\.(safetensors|bin|ckpt|pth)$/.test(name)) return undefined;
  const { size, mtimeMs } = await stat(path);
  const key = `${path}\n${size}\n${mtimeMs}`;
  if (known.has(key)) return known.get(key);
  const header = name.endsWith('.safetensors') ? await headerOf(path) : undefined;
  const [text, patterns] = header === undefined ? [name, byName] : [header, byTensor];
  const isLarge = size > MODEL_BYTES && /\.(safetensors|ckpt)$/.test(name);
  const kind = patterns.find(([, pattern]) => pattern.test(text))?.[0] ?? (isLarge ? 'model' : undefined);
  if (known.size === MAX_KNOWN) known.clear();
  known.set(key, kind);
  return kind;
}

/** Returns the header of a safetensors file, or its beginning; '' where there is none. */
async function headerOf(path: string): Promise<string> {
  const file = await open(path);
  try {
    const length = Buffer.alloc(8);
    const { bytesRead } = await file.read(length, 0, 8, 0);
    if (bytesRead < 8) return '';
    const claimed = length.readBigUInt64LE();
    const header = Buffer.alloc(claimed > MAX_HEADER ? MAX_HEADER : Number(claimed));
    const read = await file.read(header, 0, header.length, 8);
    return header.toString('latin1', 0, read.bytesRead);
  } finally {
    await file.close();
  }
}
