/** @file The library: `import { IPAdapterPipeline, train } from 'ip-adapter'`. */
export type { CheckOptions } from './check/check-config.js';
export { type CheckHooks, checkDataset } from './check/check-dataset.js';
export type { DatasetReport } from './check/report.js';
export type { TrainOptions } from './config.js';
export type { BadRow } from './data/bad-rows.js';
export type { RgbImage } from './data/image.js';
export { contactSheet, encodePng } from './data/png.js';
export { dryRun } from './dry-run.js';
export type { CacheMeasures, DryRunReport, PartMeasures, StepMeasures } from './dry-run-report.js';
export {
  CheckpointError,
  ConfigError,
  DatasetError,
  TorchError,
  TrainingError,
  UserError,
} from './errors.js';
export { type Evaluation, evaluate, type Scores } from './evaluate/evaluate.js';
export type { EvaluateOptions } from './evaluate/evaluate-config.js';
export { embed } from './pipeline/embed.js';
export type {
  DrawOptions,
  EmbedOptions,
  GenerateOptions,
  ImageFit,
  ImagePrompt,
  Job,
  PipelineOptions,
} from './pipeline/generate-config.js';
export type { Picture } from './pipeline/picture.js';
export { type GenerateHooks, IPAdapterPipeline } from './pipeline/pipeline.js';
export type { SamplerName } from './schedulers/config.js';
export type { StepsReport } from './step-reporter.js';
export { type TrainHooks, type TrainResult, train } from './train.js';
