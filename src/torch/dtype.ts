/** @file Element types: their PyTorch names, c10 codes (c10/core/ScalarType.h), sizes, and safetensors names. */

interface DTypeInfo {
  /** c10::ScalarType */
  code: number;
  bytes: number;
  safetensors: string;
}

export const dtypes = {
  uint8: { code: 0, bytes: 1, safetensors: 'U8' },
  int8: { code: 1, bytes: 1, safetensors: 'I8' },
  int16: { code: 2, bytes: 2, safetensors: 'I16' },
  int32: { code: 3, bytes: 4, safetensors: 'I32' },
  int64: { code: 4, bytes: 8, safetensors: 'I64' },
  float16: { code: 5, bytes: 2, safetensors: 'F16' },
  float32: { code: 6, bytes: 4, safetensors: 'F32' },
  float64: { code: 7, bytes: 8, safetensors: 'F64' },
  bool: { code: 11, bytes: 1, safetensors: 'BOOL' },
  bfloat16: { code: 15, bytes: 2, safetensors: 'BF16' },
} satisfies Record<string, DTypeInfo>;

export type DType = keyof typeof dtypes;

const byCode = new Map(Object.entries(dtypes).map(([name, info]) => [info.code, name as DType]));
const bySafetensors = new Map(
  Object.entries(dtypes).map(([name, info]) => [info.safetensors, name as DType]),
);

/** Returns the name of a c10::ScalarType code. */
export function dtypeOfCode(code: number): DType {
  const name = byCode.get(code);
  if (name === undefined) throw new Error(`LibTorch's dtype with code ${code} is not supported`);
  return name;
}

/** Returns the dtype that a safetensors header names; undefined where it is not supported. */
export function dtypeOfSafetensors(name: string): DType | undefined {
  return bySafetensors.get(name);
}
