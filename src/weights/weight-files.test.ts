import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { code, craftTorchZip } from '../../test/craft-torch-zip.js';
import { pickleStateDict, readJson, writeBin, writeJson, writeShards } from '../../test/model-files.js';
import { CheckpointError } from '../base/errors.js';
import { writeSafetensors } from '../formats/index.js';
import { full, memoryStats, tidy } from '../torch/index.js';
import { diffusersWeights, readTensorBin, readWeights, transformersWeights } from './weight-files.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-weights-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const refuses = (message: RegExp | string) => {
  expect(() => readWeights(folder, transformersWeights)).toThrow(CheckpointError);
  expect(() => readWeights(folder, transformersWeights)).toThrow(message);
};
const few = new Map(['a', 'b', 'c', 'd'].map((key, i) => [key, full([2], i)] as const));

describe('which form is read', () => {
  const name = 'diffusion_pytorch_model';
  const forms = [
    `${name}.safetensors`,
    `${name}.safetensors.index.json`,
    `${name}.fp16.safetensors`,
    `${name}.safetensors.index.fp16.json`,
    `${name}.bin`,
    `${name}.bin.index.json`,
    `${name}.fp16.bin`,
    `${name}.bin.index.fp16.json`,
  ];

  it('full precision before half, safetensors before .bin, one file before shards', () => {
    for (const [i, form] of [...forms.entries()].reverse()) {
      const ending = form.includes('.bin') ? 'bin' : 'safetensors';
      const marked = new Map([['form', full([1], i)]]);
      if (form.endsWith('.json')) {
        const shard = `${i}.${ending}`;
        if (ending === 'bin') writeBin(join(folder, shard), marked);
        else writeSafetensors(join(folder, shard), marked);
        writeJson(join(folder, form), { weight_map: { form: shard } });
      } else if (ending === 'bin') writeBin(join(folder, form), marked);
      else writeSafetensors(join(folder, form), marked);

      const { tensors, file, otherForms } = readWeights(folder, diffusersWeights);
      expect(file).toBe(join(folder, form));
      expect(tensors.get('form')?.item()).toBe(i);
      expect(otherForms).toEqual(forms.slice(i + 1));
    }
  });

  it('names other weight files in the folder', () => {
    refuses(
      /^Expected weights such as .*model\.safetensors but there are none: download them from where config\.json is from$/,
    );
    writeFileSync(join(folder, 'model.onnx'), '');
    writeFileSync(join(folder, 'README.md'), '');
    refuses(
      /: model\.onnx has another name; supported names are model\.safetensors, model\.safetensors\.index\.json, /,
    );
    writeFileSync(join(folder, 'model.non_ema.safetensors'), '');
    refuses(/: model\.non_ema\.safetensors, model\.onnx have other names;.* pytorch_model\.bin, /);
  });
});

describe('shards', () => {
  const index = () => join(folder, 'model.safetensors.index.json');
  const editMap = (change: object) =>
    writeJson(index(), { weight_map: { ...readJson(index()).weight_map, ...change } });
  beforeEach(() => writeShards(folder, 'model', 'safetensors', few));

  it('hold what the index lists', () => {
    const { tensors, file } = readWeights(folder, transformersWeights);
    expect(file).toBe(index());
    expect(Array.from(tensors, ([key, tensor]) => [key, tensor.toNumbers()[0]])).toEqual([
      ['a', 0],
      ['d', 3],
      ['b', 1],
      ['c', 2],
    ]);
  });

  it('must all exist', () => {
    for (const name of readdirSync(folder).filter((one) => /000[13]-of/.test(one)))
      rmSync(join(folder, name));
    refuses(
      /the 3 shards of .* but model-00001-of-00003\.safetensors, model-00003-of-00003\.safetensors are missing; download the missing files/,
    );
  });

  it('must hold neither less nor more', () => {
    editMap({ e: 'model-00002-of-00003.safetensors' });
    refuses(/1 are missing \(e in model-00002-of-00003\.safetensors\); the shards belong to another version/);
    editMap({ d: 'model-00002-of-00003.safetensors', e: undefined });
    refuses(/1 are missing \(d in model-00002.*\) and 1 are not listed there \(d in model-00001/);
  });

  it.each([
    ['{', /a JSON object in .*model\.safetensors\.index\.json but it cannot be read: .*JSON/],
    ['null', /a JSON object in .* but received null/],
    ['{"weight_map": {}}', /an index with a weight_map in .*index\.json but there is none/],
    ['{"weight_map": {"a": 5}}', /it names 5 for a, which is not the name of a weights file/],
    ['{"weight_map": {"a": "../a.safetensors"}}', /it names "\.\.\/a\.safetensors" for a/],
    ['{"weight_map": {"a": "model.txt"}}', /it names "model\.txt"/],
  ])('must have a valid index: %s', (text, message) => {
    writeFileSync(index(), text);
    refuses(message);
  });

  it('leave no tensors behind', () => {
    const initialTensors = memoryStats().liveTensors;
    tidy(() => void readWeights(folder, transformersWeights));
    expect(memoryStats().liveTensors).toBe(initialTensors);
  });
});

describe('a torch file', () => {
  const file = () => join(folder, 'pytorch_model.bin');
  const dictionary = (...items: Buffer[]) => Buffer.concat([Buffer.from('}('), ...items, Buffer.from('u')]);

  it('has its tensors at the top, or under state_dict', () => {
    writeBin(file(), few);
    expect([...readTensorBin(file(), 'refuse').keys()]).toEqual([...few.keys()]);
    writeBin(file(), few, (stateDict) =>
      dictionary(code.text('epoch'), code.int(3), code.text('state_dict'), stateDict),
    );
    expect([...readTensorBin(file(), 'refuse').keys()]).toEqual([...few.keys()]);
  });

  it('must contain nothing but tensors', () => {
    writeBin(file(), few, (stateDict) =>
      Buffer.concat([stateDict, code.text('step'), code.int(3), Buffer.from('s')]),
    );
    refuses(/Expected a dictionary of tensors in .*pytorch_model\.bin but its step is not a tensor/);
    craftTorchZip(file(), code.text('nothing'));
    refuses(/but there is none/);
    craftTorchZip(file(), pickleStateDict(new Map()));
    refuses(/but there is none/);
  });
});
