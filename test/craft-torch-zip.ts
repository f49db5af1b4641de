/** @file Writes torch files instruction by instruction, including ones that torch itself would not write. */
import { writeFileSync } from 'node:fs';
import { ZipWriter } from '../src/formats/zip-writer.js';

/** Encoders of pickle instructions. */
export const code = {
  text: (value: string) => Buffer.concat([Buffer.from([0x8c, Buffer.byteLength(value)]), Buffer.from(value)]),
  int: (value: number) => {
    const bytes = Buffer.from('J....');
    bytes.writeInt32LE(value, 1);
    return bytes;
  },
  global: (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`),
  tuple: (...items: Buffer[]) => Buffer.concat([Buffer.from('('), ...items, Buffer.from('t')]),
  call: (callee: Buffer, ...args: Buffer[]) => Buffer.concat([callee, code.tuple(...args), Buffer.from('R')]),
  storage: (type: string, key: string, numel: number) =>
    Buffer.concat([
      code.tuple(
        code.text('storage'),
        code.global('torch', type),
        code.text(key),
        code.text('cpu'),
        code.int(numel),
      ),
      Buffer.from('Q'),
    ]),
  view: (storage: Buffer, offset: number, shape: number[], strides: number[]) =>
    code.call(
      code.global('torch._utils', '_rebuild_tensor_v2'),
      storage,
      code.int(offset),
      code.tuple(...shape.map(code.int)),
      code.tuple(...strides.map(code.int)),
      Buffer.from([0x89]),
      Buffer.from('}'),
    ),
};

/** Writes a torch file with a pickle's instructions (without PROTO and STOP) and the bytes of its storages. */
export function craftTorchZip(
  path: string,
  pickle: Buffer,
  storages: Record<string, Uint8Array> = {},
  others: Record<string, Uint8Array> = {},
): string {
  const parts: Buffer[] = [];
  const zip = new ZipWriter((bytes) => void parts.push(Buffer.from(bytes)));
  zip.add('a/data.pkl', Buffer.concat([Buffer.from([0x80, 2]), pickle, Buffer.from('.')]));
  for (const [key, bytes] of Object.entries(storages)) zip.add(`a/data/${key}`, bytes);
  for (const [name, bytes] of Object.entries(others)) zip.add(name, bytes);
  zip.finish();
  writeFileSync(path, Buffer.concat(parts));
  return path;
}
