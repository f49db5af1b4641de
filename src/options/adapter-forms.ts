/** @file The forms of adapter files, by the endings of their names. */

/** As `ip-adapter export` writes them; the first is that of checkpoints. */
export const adapterForms = ['safetensors', 'bin'] as const;
export type AdapterForm = (typeof adapterForms)[number];
