/** @file Bytes on disk: safetensors and PyTorch's zip files. */
export { Unread } from './pickle.js';
export { readSafetensors, safetensorsSize, writeSafetensors } from './safetensors.js';
export { readTorchZip, writeTorchZip } from './torch-zip.js';
