import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { code, craftTorchZip } from '../../test/craft-torch-zip.js';
import { golden } from '../../test/golden.js';
import { arange, type Tensor, tensor, zeros } from '../torch/index.js';
import { readSafetensors, Unread } from './index.js';
import { readTorchZip, writeTorchZip } from './torch-zip.js';

const folder = mkdtempSync(join(tmpdir(), 'torch-zip-'));
afterAll(() => rmSync(folder, { recursive: true }));
const crafted = join(folder, 'crafted.bin');

const sixFloats = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);

describe('reading', () => {
  it('reads bit-exactly what torch.save wrote', () => {
    const expected = readSafetensors(golden('train/final.safetensors')!).tensors;
    const adapter = readTorchZip(golden('train/ip_adapter.bin')!) as Map<string, Map<string, Tensor>>;
    expect([...adapter.keys()]).toEqual(['image_proj', 'ip_adapter']);
    const flat = [...adapter].flatMap(([part, tensors]) =>
      [...tensors].map(([key, t]) => [`${part}.${key}`, t] as const),
    );
    expect(flat.map(([key]) => key).sort()).toEqual([...expected.keys()].sort());
    for (const [key, actual] of flat) {
      expect(actual.shape).toEqual(expected.get(key)!.shape);
      expect(actual.toBytes()).toEqual(expected.get(key)!.toBytes());
    }
  });

  it('views of one storage: an offset, transposed strides, steps', () => {
    const storage = code.storage('FloatStorage', '0', 6);
    const views = [
      code.view(storage, 4, [2], [1]),
      code.view(storage, 0, [3, 2], [1, 3]),
      code.view(storage, 1, [2, 1], [3, 77]),
    ];
    const read = readTorchZip(craftTorchZip(crafted, code.tuple(...views), { 0: sixFloats })) as Tensor[];
    expect(read.map((view) => view.toNumbers())).toEqual([
      [4, 5],
      [0, 3, 1, 4, 2, 5],
      [1, 4],
    ]);
    expect(read.map(({ strides }) => strides)).toEqual([[1], [2, 1], [1, 1]]);
  });

  it.each([
    ['FloatStorage', 'float32', Float32Array.of(1.5)],
    ['DoubleStorage', 'float64', Float64Array.of(1.5)],
    ['HalfStorage', 'float16', Uint16Array.of(0x3e00)],
    ['BFloat16Storage', 'bfloat16', Uint16Array.of(0x3fc0)],
    ['LongStorage', 'int64', BigInt64Array.of(-2n)],
    ['IntStorage', 'int32', Int32Array.of(-2)],
    ['ShortStorage', 'int16', Int16Array.of(-2)],
    ['CharStorage', 'int8', Int8Array.of(-2)],
    ['ByteStorage', 'uint8', Uint8Array.of(254)],
    ['BoolStorage', 'bool', Uint8Array.of(1)],
  ])('%s is %s', (type, dtype, values) => {
    const scalar = code.view(code.storage(type, 'x', 1), 0, [], []);
    const read = readTorchZip(craftTorchZip(crafted, scalar, { x: new Uint8Array(values.buffer) })) as Tensor;
    expect(read.dtype).toBe(dtype);
    expect(read.shape).toEqual([]);
    expect(read.item()).toBe(
      dtype.includes('int') ? (dtype === 'uint8' ? 254 : -2) : dtype === 'bool' ? 1 : 1.5,
    );
  });

  /** Six elements of 4 bytes, or 24 of one, in an untyped storage. */
  const untypedTensor = (dtype: string, elements: number): Buffer => {
    const storage = code.tuple(
      code.text('storage'),
      code.global('torch.storage', 'UntypedStorage'),
      code.text('0'),
      code.text('cuda:0'),
      code.int(24),
    );
    return code.call(
      code.global('torch._utils', '_rebuild_tensor_v3'),
      Buffer.concat([storage, Buffer.from('Q')]),
      code.int(0),
      code.tuple(code.int(elements)),
      code.tuple(code.int(1)),
      Buffer.from([0x89]),
      Buffer.from('}'),
      code.global('torch', dtype),
    );
  };

  it('an untyped storage with the dtype beside the tensor', () => {
    const file = craftTorchZip(crafted, untypedTensor('float32', 6), { 0: sixFloats });
    expect((readTorchZip(file) as Tensor).toNumbers()).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it.each(['float8_e4m3fn', 'float8_e5m2'])('%s is refused by name', (dtype) => {
    const file = craftTorchZip(crafted, untypedTensor(dtype, 24), { 0: sixFloats });
    for (const others of ['refuse', 'skip'] as const)
      expect(() => readTorchZip(file, others)).toThrow(`it has fp8 weights (torch.${dtype})`);
  });

  it('a parameter, an OrderedDict with attributes, and empty tensors', () => {
    const parameter = code.call(
      code.global('torch._utils', '_rebuild_parameter'),
      code.view(code.storage('FloatStorage', '0', 6), 0, [6], [1]),
      Buffer.from([0x88]),
      Buffer.from('}'),
    );
    const dictionary = Buffer.concat([
      code.call(code.global('collections', 'OrderedDict')),
      Buffer.concat([code.text('w'), parameter, Buffer.from('s')]),
      Buffer.concat([
        code.text('none'),
        code.view(code.storage('FloatStorage', '1', 0), 0, [0, 3], [3, 1]),
        Buffer.from('s'),
      ]),
      Buffer.from('}b'), // BUILD with an empty dictionary of attributes
    ]);
    const read = readTorchZip(
      craftTorchZip(crafted, dictionary, { 0: sixFloats, 1: new Uint8Array() }),
    ) as Map<string, Tensor>;
    expect(read.get('w')!.toNumbers()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(read.get('none')!.shape).toEqual([0, 3]);
  });
});

describe('writing', () => {
  it('is read back unchanged, with every dtype and non-contiguous tensors', () => {
    const path = join(folder, 'adapter.bin');
    const image = new Map([
      ['half', tensor([1, 2, 3], [3], 'float16')],
      ['ids', tensor([1, 2], [1, 2], 'int64')],
      ['empty', zeros([0, 4])],
      ['scalar', tensor([7], [], 'float64')],
    ]);
    const adapter = new Map([['1.to_k_ip.weight', arange(0, 6).reshape(2, 3).transpose(0, 1)]]);
    writeTorchZip(path, { image_proj: image, ip_adapter: adapter });
    const read = readTorchZip(path) as Map<string, Map<string, Tensor>>;
    for (const [part, tensors] of [
      ['image_proj', image],
      ['ip_adapter', adapter],
    ] as const) {
      expect([...read.get(part)!.keys()]).toEqual([...tensors.keys()]);
      for (const [key, { dtype, shape }] of tensors) {
        const back = read.get(part)!.get(key)!;
        expect([back.dtype, back.shape]).toEqual([dtype, shape]);
        expect(back.toBytes()).toEqual(tensors.get(key)!.toBytes());
      }
    }
  });

  it('gives the same bytes for the same tensors', () => {
    const [a, b] = [join(folder, 'same.bin'), join(folder, 'b', '..', 'same.bin')];
    writeTorchZip(a, { ip_adapter: new Map([['x', arange(0, 3)]]) });
    const first = readFileSync(a);
    writeTorchZip(b, { ip_adapter: new Map([['x', arange(0, 3)]]) });
    expect(readFileSync(b)).toEqual(first);
  });
});

describe('skipping', () => {
  // As PyTorch Lightning writes: a class as a key, objects constructed in each of pickle's ways, and the weights.
  const dictionary = (...items: Buffer[]) => Buffer.concat([Buffer.from('}('), ...items, Buffer.from('u')]);
  const callback = code.global('pytorch_lightning.callbacks.model_checkpoint', 'ModelCheckpoint');
  const scalar = code.call(code.global('numpy.core.multiarray', 'scalar'), code.int(1));
  const constructed = Buffer.concat([code.global('omegaconf', 'DictConfig'), Buffer.from(')\x81', 'latin1')]);
  const filled = Buffer.concat([
    constructed,
    ...[dictionary(code.text('_content'), code.int(1)), Buffer.from('b')], // BUILD
    ...[code.text('key'), code.int(1), Buffer.from('s')], // SETITEM
    ...[code.int(1), Buffer.from('a')], // APPEND
  ]);
  const file = () =>
    craftTorchZip(
      crafted,
      dictionary(
        ...[code.text('callbacks'), dictionary(callback, dictionary(code.text('best'), scalar))],
        ...[code.text('hyper_parameters'), filled],
        ...[code.text('harmful'), code.call(code.global('os', 'system'), code.text('exit 1'))],
        ...[code.text('weight'), code.view(code.storage('FloatStorage', '0', 6), 0, [6], [1])],
      ),
      { 0: sixFloats },
    );

  it('reads the tensors, and the rest as Unread, without executing anything', () => {
    const read = readTorchZip(file(), 'skip') as Map<string, unknown>;
    expect((read.get('weight') as Tensor).toNumbers()).toEqual([0, 1, 2, 3, 4, 5]);
    const [[key, value]] = [...(read.get('callbacks') as Map<Unread, Map<string, unknown>>)] as [
      [Unread, Map<string, unknown>],
    ];
    expect(key).toEqual(new Unread('pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint'));
    expect(value.get('best')).toEqual(new Unread('numpy.core.multiarray.scalar'));
    expect(read.get('hyper_parameters')).toEqual(new Unread('omegaconf.DictConfig'));
    expect(read.get('harmful')).toEqual(new Unread('os.system'));
  });

  it('is off by default', () => {
    expect(() => readTorchZip(file())).toThrow(/names pytorch_lightning\./);
  });
});
