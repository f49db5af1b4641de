/** @file The library: `import { generate, train } from 'ip-adapter'`. */
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
export type { BadRow } from './base/listing.js';
export type { RgbImage } from './base/rgb-image.js';
export type {
  CheckpointEvent,
  GainEvent,
  ImageEvent,
  MessageEvent,
  PreviewEvent,
  ProgressEvent,
  RequestEvent,
  RunContext,
  RunEvent,
  ScoreSet,
  ScoresEvent,
  SheetEvent,
  StepEvent,
  VerdictEvent,
} from './base/run-context.js';
export type { Interval } from './base/statistics.js';
export { checkDataset } from './dataset-check/check-dataset.js';
export type { DatasetReport } from './dataset-check/report.js';
export { sampleSheet } from './dataset-check/sample-sheet.js';
export { type JoinOptions, joinProcessGroup } from './distributed/join.js';
export { ProcessGroup } from './distributed/process-group.js';
export { type Member, ProcessGroupError } from './distributed/process-group-error.js';
export { type Evaluation, evaluate, type ScoreDifference, type Scores } from './evaluation/evaluate.js';
export { embed } from './generation/embed.js';
export { generate } from './generation/generate.js';
export type { GeneratedImage } from './generation/generated-image.js';
export { IPAdapterPipeline } from './generation/pipeline.js';
export { contactSheet, encodePng } from './images/png.js';
export type { ImageFit } from './options/generate-options.js';
export type {
  AdapterFiles,
  AdapterWithReferences,
  DrawOptions,
  EmbedOptions,
  EvaluateOptions,
  GenerateOptions,
  Job,
  PipelineOptions,
  PromptOptions,
} from './options/generate-types.js';
export type { LoraOptions } from './options/lora-options.js';
export { type PresetName, presets } from './options/presets.js';
export type { BlockScales } from './options/reference-options.js';
export type { ReferenceImages, ReferenceSettings, References } from './options/reference-types.js';
export type { CheckOptions, TrainOptions } from './options/train-types.js';

export type { SamplerName } from './schedulers/config.js';
export { dryRun } from './training/dry-run/dry-run.js';
export type {
  CacheMeasures,
  DryRunReport,
  PartMeasures,
  StepMeasures,
} from './training/dry-run/dry-run-report.js';
export { writeRunReport } from './training/report.js';
export { type TrainContext, type TrainResult, train } from './training/train.js';
