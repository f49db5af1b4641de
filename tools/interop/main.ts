/**
 * @file Holds this package against its peers: diffusers, transformers and ComfyUI_IPAdapter_plus, in their own Python.
 *
 *     npm run interop                                an environment of its own in build/interop
 *     npm run interop -- --python PYTHON             a Python that has the packages of requirements.txt
 *     npm run interop -- --comfyui FOLDER            a checkout of ComfyUI_IPAdapter_plus
 *     npm run interop -- --work FOLDER               where models and results are written; default: a temporary folder
 *
 * For each family: models that peers save give the same outputs here; LoRAs in every format are merged into the same weights.
 * diffusers' pipelines for images, masks, ControlNets and a VAE in tiles draw the same images.
 * For each kind of adapter too: an adapter that our commands train draws the same image in diffusers, and gives the same
 * tokens and predictions in ComfyUI's code; three training steps are those of plain PyTorch. A line for each; the exit code
 * is 1 where one misses. Figures are in docs/interop.md.
 */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { peerLimits } from '../../src/adapters/peer-limits.js';
import { readSafetensors } from '../../src/formats/index.js';
import { setNumThreads, type Tensor, torchVersion } from '../../src/torch/index.js';
import { distance, imageDifference, maxError } from './compare.js';
import { checkOutComfyUI, createPython, hasPackage, run, versionsOf } from './environment.js';
import { mergeLoras } from './loras.js';
import { type Case, runModels, trainSteps, useCommands, writeForComfyUI } from './ours.js';
import { drawPipelines, pipelineNames } from './pipelines.js';
import { runReferences, variantsOf, writeReferences } from './references.js';

const { values } = parseArgs({
  options: { python: { type: 'string' }, comfyui: { type: 'string' }, work: { type: 'string' } },
});
const environment = join(import.meta.dirname, '../../build/interop');
mkdirSync(environment, { recursive: true });
const python = values.python ?? createPython(environment);
const comfyUI = values.comfyui ?? checkOutComfyUI(environment);
const work = values.work ?? mkdtempSync(join(tmpdir(), 'ip-adapter-interop-'));
const script = (name: string, ...args: string[]): string =>
  run(python, [join(import.meta.dirname, `${name}.py`), ...args]);
const families = ['sd15', 'sdxl'] as const;
const cases: Case[] = families.flatMap((family) =>
  (['plus', 'base', 'full-face'] as const).map((kind) => ({ family, kind })),
);

let misses = 0;

/** Prints a line of the table: a figure, and the most that it may be. */
function report(name: string, what: string, figure: number, limit: number): void {
  const isGood = figure <= limit;
  if (!isGood) misses++;
  const numbers = `${figure.toExponential(1).padStart(8)}  limit ${limit.toExponential(0)}`;
  console.log(`${isGood ? 'ok  ' : 'MISS'}  ${name.padEnd(16)}${what.padEnd(58)}${numbers}`);
}

function read(...names: string[]): Map<string, Tensor> {
  return readSafetensors(join(work, ...names)).tensors;
}

setNumThreads(1);
console.log([`LibTorch ${torchVersion()}`, ...versionsOf(python)].join(', '));
mkdirSync(work, { recursive: true });
writeFileSync(join(work, 'cases.json'), JSON.stringify(cases));
script('models', join(import.meta.dirname, '../../demo/models/tokenizer'), work);
for (const family of families) {
  const io = read(family, 'io.safetensors');
  for (const [name, value] of runModels(join(work, family)))
    report(family, `${name} of a saved model`, maxError(value, io.get(name) as Tensor), 1e-5);
}
const training = new Map<Case, ReturnType<typeof trainSteps>>();
for (const one of cases) {
  useCommands(work, one);
  writeForComfyUI(work, one);
  training.set(one, trainSteps(work, one));
}
if (hasPackage(python, 'peft')) compareLoras();
else console.log('LoRAs are not compared: this Python has no peft, which diffusers needs for them');
const files = await writeReferences(work, cases);
for (const one of cases) if (variantsOf(one).length > 0) await runReferences(work, one, files);
script('references', work, comfyUI);
await drawPipelines(work, families);
script('diffusers_images', work);
script('diffusers_pipelines', work);
script('comfyui', work, comfyUI);
script('training', work, comfyUI);
for (const one of cases) {
  await compareImages(one);
  compareComfyUI(one);
  compareTraining(one);
  await compareReferences(one);
}
for (const family of families)
  for (const name of pipelineNames) {
    const file = (who: string): string => join(work, family, 'pipelines', `${name}.${who}.png`);
    const { mean } = await imageDifference(file('ours'), file('diffusers'));
    report(family, `${name}, mean difference / 255`, mean / 255, 1 / 255);
  }
console.log(misses === 0 ? 'Everything agrees' : `${misses} comparisons miss`);
if (misses > 0) process.exitCode = 1;

/** Merges LoRAs in every format that peers write. */
function compareLoras(): void {
  script('lora', work);
  for (const family of families)
    for (const { name, missed, worst } of mergeLoras(join(work, family))) {
      report(`${family} ${name}`, 'weights that only one side merges a LoRA into', missed, 0);
      report(`${family} ${name}`, 'merged weights, error / change', worst, 1e-5);
    }
}

async function compareImages({ family, kind }: Case): Promise<void> {
  const at = (name: string): string => join(work, family, kind, name);
  const { mean } = await imageDifference(at('ours.png'), at('diffusers.png'));
  const effect = await imageDifference(at('ours.png'), at('without.png'));
  report(`${family} ${kind}`, 'image by diffusers, mean difference / 255', mean / 255, 1 / 255);
  report(`${family} ${kind}`, "the same, as a share of the adapter's effect", mean / effect.mean, 1e-3);
}

function compareComfyUI({ family, kind }: Case): void {
  const name = `${family} ${kind}`;
  const [ours, theirs] = [read(family, kind, 'ours.safetensors'), read(family, kind, 'comfyui.safetensors')];
  const of = (tensors: Map<string, Tensor>, key: string): Tensor => tensors.get(key) as Tensor;
  const limits = peerLimits(read(family, kind, 'adapter.safetensors'));
  const isRefusalExpected = limits.some((limit) => limit.startsWith('ComfyUI'));
  if (theirs.has('refused') || isRefusalExpected) {
    const isSaid = theirs.has('refused') === isRefusalExpected;
    report(name, 'ComfyUI refuses it, as training says', isSaid ? 0 : 1, 0);
    return;
  }
  for (const key of ['tokens', 'null_tokens'])
    report(name, `${key} by ComfyUI`, maxError(of(theirs, key), of(ours, key)), 1e-5);
  const effect = maxError(of(ours, 'without'), of(ours, 'prediction'), 1);
  const share = maxError(of(theirs, 'prediction'), of(ours, 'prediction'), effect);
  report(name, "prediction by ComfyUI, share of adapter's effect", share, 1e-4);
}

/** Every setting of references: what is added in each attention call, and whole images. */
async function compareReferences(one: Case): Promise<void> {
  for (const { name, peer } of variantsOf(one)) {
    const at = (end: string): string => join(work, one.family, one.kind, `${name}.${end}`);
    if (peer === 'comfyui') {
      const [ours, theirs] = ['ours', 'comfyui'].map((side) =>
        read(one.family, one.kind, `${name}.${side}.safetensors`),
      ) as [Map<string, Tensor>, Map<string, Tensor>];
      const sites = new Set([...ours.keys(), ...theirs.keys()]);
      const errors = Array.from(sites, (site) => {
        const [own, expected] = [ours.get(site), theirs.get(site)];
        return own && expected ? maxError(own, expected) : Number.POSITIVE_INFINITY;
      });
      const worst = sites.size === 0 ? Number.POSITIVE_INFINITY : Math.max(...errors);
      report(`${one.family} ${one.kind}`, `${name}: ${sites.size} attention calls by ComfyUI`, worst, 1e-4);
    }
    const { mean } = await imageDifference(at(`${peer}.ours.png`), at(`${peer}.png`));
    report(`${one.family} ${one.kind}`, `${name}: image by ${peer}, mean / 255`, mean / 255, 1 / 255);
  }
}

function compareTraining(one: Case): void {
  const name = `${one.family} ${one.kind}`;
  const { losses, trained } = training.get(one) as ReturnType<typeof trainSteps>;
  const theirs = read(one.family, one.kind, 'trained.safetensors');
  const expected = theirs.get('losses') as Tensor;
  theirs.delete('losses');
  const worst = losses.map((loss, i) => Math.abs(loss / expected.select(0, i).item() - 1));
  report(name, 'losses of three steps by PyTorch', Math.max(...worst), 1e-6);
  const movement = distance(read(one.family, one.kind, 'init.safetensors'), theirs);
  report(name, 'weights after them, error / movement', distance(trained, theirs) / movement, 1e-3);
}
