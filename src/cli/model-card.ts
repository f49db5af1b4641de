/** @file The model card of a published adapter: README.md of its repository, with the Hub's metadata at the top. */
import type { AdapterDescription } from '../adapters/kinds.js';
import type { GainEvent, ScoresEvent } from '../base/run-context.js';
import type { Interval } from '../base/statistics.js';
import type { Scores } from '../evaluation/evaluate.js';
import { flagOf } from '../options/options.js';
import { effectiveOptions, trainOptionsSchema } from '../options/train-options.js';

export interface Card {
  /** 'org/name' */
  repo: string;
  adapter: AdapterDescription;
  /** A sentence for each other program that cannot load it. */
  limits: readonly string[];
  /** Such as 'Stable Diffusion 1.x'; undefined for a model of another size. */
  family: string | undefined;
  /** Names on the Hub, or the last part of a path. */
  model: ModelName;
  imageEncoder: ModelName;
  startedFrom: ModelName | undefined;
  step: number;
  rows: number;
  options: Readonly<Record<string, unknown>>;
  /** Of `ip-adapter evaluate`. */
  evaluation: CardEvaluation | undefined;
  /** What the run has measured at this checkpoint. */
  gain: GainEvent | undefined;
  scores: ScoresEvent | undefined;
  /** Paths of sample images in the repository. */
  samples: readonly string[];
  hasAverage: boolean;
  license: string | undefined;
}

export interface CardEvaluation {
  scores: Pick<Scores, 'scale' | 'clipI' | 'clipIOthers' | 'retrievalTop1'>[];
  rows: number;
}

export interface ModelName {
  name: string;
  isOnHub: boolean;
}

/** Options of words that are no paths. */
const words = new Set(['lrScheduler', 'timestepSampling', 'mixedPrecision', 'kind', 'cache']);
/** Options that say nothing of the adapter. */
const hidden = new Set(['threads', 'dataloaderNumWorkers', 'resume', 'saveSteps', 'maxSteps', 'openShards']);

/** Returns the card as Markdown. It has no path of this machine: of options, only numbers, switches and known words. */
export function modelCard(card: Card): string {
  const { repo, adapter, family, model, imageEncoder, startedFrom, step, rows, samples, license } = card;
  const { kind, sizes } = adapter;
  const metadata = [
    ...(license === undefined ? [] : [`license: ${license}`]),
    ...(model.isOnHub ? [`base_model: ${model.name}`] : []),
    'library_name: diffusers',
    'pipeline_tag: text-to-image',
    'tags:',
    ...[
      'ip-adapter',
      'image-prompt',
      family === 'Stable Diffusion XL' ? 'stable-diffusion-xl' : 'stable-diffusion',
    ].map((tag) => `- ${tag}`),
  ];
  const facts: [name: string, value: string][] = [
    ['model', model.name],
    ['image encoder', imageEncoder.name],
    [
      'image tokens',
      sizes.numTokens === undefined ? 'one for each of the image encoder' : `${sizes.numTokens}`,
    ],
    ['started from', startedFrom?.name ?? 'new weights'],
    ['training images', rows.toLocaleString('en')],
    ['steps', step.toLocaleString('en')],
  ];
  const files: [name: string, what: string][] = [
    ['ip_adapter.safetensors', 'the adapter, with the official keys'],
  ];
  if (card.hasAverage)
    files.push(['ip_adapter_ema.safetensors', 'the moving average of its weights, with the same keys']);
  return `---
${metadata.join('\n')}
---

# ${repo.split('/')[1]}

An IP-Adapter (${kind.title}${family === undefined ? '' : `, for ${family}`}): a diffusion model takes an image as its prompt.
Trained with \`ip-adapter\`.

${samples.map((path) => `![sample](${path})\n\n`).join('')}| | |
| --- | --- |
${facts.map(([name, value]) => `| ${name} | ${value} |`).join('\n')}

${measures(card)}## In diffusers

${limitOf(card, 'diffusers') ?? diffusers(card)}

## In ComfyUI

${limitOf(card, 'ComfyUI') ?? comfyUI}

## Files

${files.map(([name, what]) => `- \`${name}\`: ${what}`).join('\n')}

## Training options

\`\`\`
${optionLines(card.options).join('\n')}
\`\`\`
`;
}

const comfyUI = `With [ComfyUI_IPAdapter_plus](https://github.com/cubiq/ComfyUI_IPAdapter_plus): put \`ip_adapter.safetensors\` into
\`ComfyUI/models/ipadapter\` and the image encoder into \`ComfyUI/models/clip_vision\`; load them with _IPAdapter Model Loader_ and
_Load CLIP Vision_, and give both to _IPAdapter Advanced_.`;

/** Returns why a program cannot load the adapter, if it cannot. */
function limitOf({ limits }: Card, program: string): string | undefined {
  const limit = limits.find((sentence) => sentence.startsWith(program));
  return limit && `${limit}.`;
}

function diffusers({ repo, family, model, imageEncoder }: Card): string {
  const pipeline = family === 'Stable Diffusion XL' ? 'StableDiffusionXLPipeline' : 'StableDiffusionPipeline';
  const [, org, name, folder] = /^([^/]+)\/([^/]+)\/(.+)$/.exec(imageEncoder.name) ?? [];
  const source =
    imageEncoder.isOnHub && org !== undefined
      ? `"${org}/${name}", subfolder="${folder}"`
      : `"${imageEncoder.isOnHub ? imageEncoder.name : '<the image encoder>'}"`;
  return `\`\`\`python
from diffusers import ${pipeline}
from diffusers.utils import load_image
from transformers import CLIPVisionModelWithProjection

image_encoder = CLIPVisionModelWithProjection.from_pretrained(${source})
pipeline = ${pipeline}.from_pretrained("${model.isOnHub ? model.name : '<the model>'}", image_encoder=image_encoder)
pipeline.load_ip_adapter("${repo}", subfolder="", weight_name="ip_adapter.safetensors", image_encoder_folder=None)
pipeline.set_ip_adapter_scale(0.6)
image = pipeline("a photo", ip_adapter_image=load_image("reference.png")).images[0]
\`\`\``;
}

/** Returns what was measured, with the words and the chance level that a stranger needs to read it; '' where nothing was. */
function measures({ evaluation, gain, scores }: Card): string {
  const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
  const row = (name: string, ...cells: string[]): string => `| ${[name, ...cells].join(' | ')} |`;
  const sections: string[] = [];
  if (evaluation !== undefined)
    sections.push(`On ${evaluation.rows} reference images. CLIP-I is the similarity of a generated image to its own reference, _to others_ that to the other
references; retrieval is the share of images whose own reference is the closest of all (chance: ${percent(1 / evaluation.rows)}).

| scale | CLIP-I | to others | retrieval |
| --- | --- | --- | --- |
${evaluation.scores
  .map(({ scale, clipI, clipIOthers, retrievalTop1 }) =>
    row(
      scale === 0 ? 'no adapter' : `${scale}`,
      clipI.toFixed(3),
      clipIOthers.toFixed(3),
      percent(retrievalTop1),
    ),
  )
  .join('\n')}`);
  if (scores !== undefined)
    sections.push(`On ${scores.rows} rows that were not trained on, at step ${scores.step}, with 95 % intervals over the rows (chance of retrieval: ${percent(1 / scores.rows)}):

| | CLIP-I | retrieval |
| --- | --- | --- |
${(
  [
    ['with its reference', scores.adapter],
    ["with another row's reference", scores.shuffled],
    ['no adapter', scores.noAdapter],
  ] as const
)
  .map(([name, { clipI, retrieval }]) => row(name, within(clipI), within(retrieval)))
  .join('\n')}`);
  if (gain !== undefined)
    sections.push(`The loss on ${gain.rows} rows that were not trained on, with the right reference image, is lower by ${within(gain.over_none)} than with none, by
${within(gain.specificity)} than with another row's, and by ${within(gain.over_base)} than without adapter (95 % intervals; step ${gain.step}).`);
  return sections.length === 0 ? '' : `## Measured\n\n${sections.join('\n\n')}\n\n`;
}

function within({ mean, low, high }: Interval): string {
  return `${mean.toFixed(3)} (${low.toFixed(3)} … ${high.toFixed(3)})`;
}

function optionLines(options: Readonly<Record<string, unknown>>): string[] {
  const parsed = trainOptionsSchema.partial().safeParse(options);
  const effective = parsed.success ? effectiveOptions(parsed.data as never) : options;
  return Object.entries(effective).flatMap(([key, value]) => {
    if (hidden.has(key) || key.startsWith('validation') || value === false) return [];
    const isShown = typeof value === 'number' || value === true || words.has(key);
    return isShown ? [`${flagOf(key)}${value === true ? '' : ` ${String(value)}`}`] : [];
  });
}
