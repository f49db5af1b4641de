/** @file The library: `import { IPAdapterPipeline, train } from 'ip-adapter'`. */
// For projects that do not name Node's types themselves: Disposable, Buffer and AbortSignal are among them.
/// <reference types="node" preserve="true" />

export {
  CheckpointError,
  ConfigError,
  DatasetError,
  TorchError,
  TrainingError,
  UserError,
} from './base/errors.js';
export type { BadRow } from './data/bad-rows.js';
export { type CheckHooks, checkDataset } from './dataset-check/check-dataset.js';
export type { DatasetReport } from './dataset-check/report.js';
export { type Evaluation, evaluate, type Scores } from './evaluation/evaluate.js';
export { embed } from './generation/embed.js';
export type { Picture } from './generation/generated-image.js';
export { type GenerateHooks, IPAdapterPipeline } from './generation/pipeline.js';
export type { RgbImage } from './images/image.js';
export { contactSheet, encodePng } from './images/png.js';
export type { CheckOptions } from './options/check-options.js';
export type { EvaluateOptions } from './options/evaluate-options.js';
export type {
  DrawOptions,
  EmbedOptions,
  GenerateOptions,
  ImageFit,
  ImagePrompt,
  Job,
  PipelineOptions,
} from './options/generate-options.js';
export type { TrainOptions } from './options/train-options.js';
export type { SamplerName } from './schedulers/config.js';
export { dryRun } from './training/dry-run/dry-run.js';
export type {
  CacheMeasures,
  DryRunReport,
  PartMeasures,
  StepMeasures,
} from './training/dry-run/dry-run-report.js';
export type { StepsReport } from './training/reports/step-reporter.js';
export { type TrainHooks, type TrainResult, train } from './training/train.js';
